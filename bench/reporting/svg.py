"""Diagrams as SVG that can stand inside a page of HTML, several of them in one."""

from __future__ import annotations

import xml.etree.ElementTree as ET

from codec.diagrams import Diagram, draw
from codec.errors import CodecError

SVG, LINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
ET.register_namespace("", SVG)
ET.register_namespace("xlink", LINK)


def inline(diagrams: list[Diagram], prefix: str) -> str:
    """An <svg> element without prologue and metadata; ``prefix`` keeps its ids apart from those of others."""
    try:
        root = ET.fromstring(draw(diagrams, "svg"))
    except (ET.ParseError, UnicodeError):
        raise CodecError("a diagram has characters that SVG has not") from None
    for metadata in root.findall(f"{{{SVG}}}metadata"):
        root.remove(metadata)
    for element in root.iter():
        for key, value in element.items():
            if key == "id":
                element.set(key, prefix + value)
            elif key == f"{{{LINK}}}href":
                element.set(key, value.replace("#", f"#{prefix}"))
            else:
                element.set(key, value.replace("url(#", f"url(#{prefix}"))
    root.set("role", "img")
    root.set("aria-label", "; ".join(f"{d.title}: {d.y.label} over {d.x.label}" for d in diagrams))
    return ET.tostring(root, encoding="unicode")
