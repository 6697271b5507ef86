"""Results as one page of HTML that needs nothing else: tables, diagrams, and pictures under a slider over the rate.

Results come from files, so nothing in them is trusted: words are escaped, pictures must be data: URIs, what is no
result is a CodecError, and the page's own policy lets a browser run its one script and load nothing.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
from html import escape
from pathlib import Path
from string import Template

from codec.api import psnr
from codec.diagrams import OURS, Diagram
from codec.errors import CodecError

from .progression import ORIGINAL
from .svg import inline
from .table import Table, tables_of

HERE = Path(__file__).parent
SOURCE = re.compile(r"data:image/(?:webp|jpeg|avif);base64,[A-Za-z0-9+/]+={0,2}")
SMALL = 64  # pictures of at most so many pixels a side are shown with visible pixels


def page(results: list[dict]) -> str:
    """The whole page; results of ``bench.reporting.progression`` come first, with their pictures."""
    results = sorted(results, key=lambda r: r.get("bench") != "progression")
    pictures = [picture for r in results if r.get("bench") == "progression" for picture in pictures_of(r)]
    script = (HERE / "report.js").read_text()
    parts = {
        "digest": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        "style": (HERE / "report.css").read_text(),
        "script": script,
        "pictures": "".join(picture_html(i, p) for i, p in enumerate(pictures)),
        "results": "".join(result_html(i, r) for i, r in enumerate(results)),
        "data": json.dumps(pictures).replace("<", r"\u003c"),
    }
    return Template((HERE / "report.html").read_text()).substitute(parts)


def pictures_of(result: dict) -> list[dict]:
    """What the script needs: for each picture its panes, images, and for each stage and pane [image, words]."""
    try:
        files = dict.fromkeys(r["file"] for r in result["rows"])
        return [picture([r for r in result["rows"] if r["file"] == file]) for file in files]
    except (KeyError, IndexError, TypeError, ValueError, OverflowError):
        raise CodecError("not the JSON of bench.progression") from None


def picture(rows: list[dict]) -> dict:
    [original] = (r for r in rows if r["codec"] == ORIGINAL)
    coded = [r for r in rows if r is not original]
    others = [name for name in dict.fromkeys(r["codec"] for r in coded) if name != OURS]
    at = {(r["stage"], r["codec"]): r for r in coded}
    panes = [OURS, ORIGINAL, *others]
    images, stages = {}, []
    for stage in sorted({r["stage"] for r in coded}):
        line = [original if name == ORIGINAL else at[stage, name] for name in panes]
        stages.append([[images.setdefault(source(r), len(images)), words(r)] for r in line])
    if not stages:
        raise ValueError("nothing but the original")
    return {
        "name": str(original["file"]),
        "width": int(original["width"]),
        "height": int(original["height"]),
        "panes": [str(name) for name in panes],
        "images": list(images),
        "stages": stages,
    }


def source(row: dict) -> str:
    if not SOURCE.fullmatch(row["source"]):
        raise ValueError("not a picture")
    return row["source"]


def words(row: dict) -> str:
    """What stands under a picture."""
    if row["codec"] == ORIGINAL:
        return f"{row['width']}\N{MULTIPLICATION SIGN}{row['height']}, a file of {row['bytes']:,} bytes"
    quality = psnr(row["mse"])
    end = {"smallest": "smallest file: ", "largest": "largest file: "}.get(row.get("end"), "")
    said = f"{quality:.2f} dB" if math.isfinite(quality) else "exact"
    return f"{end}{row['bytes']:,} bytes, {row['bits_per_dim']:#.3g} bits/dim, {said}"


def picture_html(i: int, p: dict) -> str:
    """The last stage, which is what a browser without scripts goes on showing."""
    name, most, last = escape(p["name"]), len(p["stages"]) - 1, p["stages"][-1]
    small = " small" if max(p["width"], p["height"]) <= SMALL else ""
    size = f'width="{p["width"]}" height="{p["height"]}"'
    panes = ""
    for pane, (image, said) in zip(map(escape, p["panes"]), last):
        shown = f'<img src="{p["images"][image]}" alt="{name}, {pane}: {escape(said)}" {size} decoding="sync">'
        panes += f"<figure>{shown}<figcaption><b>{pane}</b> <span>{escape(said)}</span></figcaption></figure>\n"
    ours = escape(last[0][1])
    return (
        f'<section class="picture{small}"><h3 id="picture-{i}">{name}</h3>\n'
        f'<p class="control"><label for="stage-{i}">Bytes of the file</label> '
        f'<input type="range" id="stage-{i}" min="0" max="{most}" value="{most}" aria-valuetext="{ours}"> '
        f'<output for="stage-{i}">{ours}</output></p>\n'
        f'<div class="panes">{panes}</div></section>\n'
    )


def result_html(i: int, result: dict) -> str:
    """Where a result comes from, its diagrams and its tables."""
    name = escape(str(result.get("bench", "result")))
    if not isinstance(values := result.get("diagrams", []), list):
        raise CodecError("not the JSON of a measurement")
    diagrams = [Diagram.from_json(d) for d in values]
    kind = "wide paper several" if len(diagrams) > 1 else "wide paper"
    drawn = f'<div class="{kind}">{inline(diagrams, f"r{i}-")}</div>\n' if diagrams else ""
    tables = "".join(map(table_html, checked_tables(result)))
    return f'<section id="result-{i}"><h3>{name}</h3>\n{origin_html(result)}{drawn}{tables}</section>\n'


def origin_html(result: dict) -> str:
    facts = {key: result.get(key) for key in ("model", "fingerprint", "device", "threads", "seconds")}
    facts |= {key: listed(result.get(key)) for key in ("versions", "settings")}
    lines = "".join(f"<dt>{k}</dt><dd>{escape(str(v))}</dd>" for k, v in facts.items() if v is not None)
    return f"<dl>{lines}</dl>\n"


def listed(value) -> str | None:
    """A dictionary in words."""
    if not isinstance(value, dict) or not value:
        return None
    plain = {k: " ".join(map(str, v)) if isinstance(v, list) else v for k, v in value.items()}
    return ", ".join(f"{k} {v}" for k, v in plain.items())


def checked_tables(result: dict) -> list[Table]:
    try:
        tables = tables_of({"tables": []} | result)
        lists = [line for t in tables for line in (t.rows, t.columns, *t.rows)]
    except (TypeError, KeyError):
        raise CodecError("not a table: name, columns or rows are missing") from None
    if not all(isinstance(line, list) for line in lists):
        raise CodecError("not a table: columns and rows are lists")
    return tables


def table_html(table: Table) -> str:
    """The first cell of a row is its name."""
    head = "".join(f'<th scope="col">{escape(str(c))}</th>' for c in table.columns)
    body = "".join(
        "<tr>" + "".join(f'<th scope="row">{c}</th>' if k == 0 else f"<td>{c}</td>" for k, c in enumerate(cells))
        for cells in ([escape(str(c)) for c in row] for row in table.rows)
    )
    return (
        f'<div class="wide"><table><caption>{escape(str(table.name))}</caption>'
        f"<thead><tr>{head}</thead><tbody>{body}</tbody></table></div>\n"
    )
