"""Pictures in and out: from any common file to 8-bit sRGB or grey arrays, and back to PNG."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TypedDict

import numpy as np
from PIL import Image

from ddpm.images.pictures import MAX_PIXELS, Picture, is_grey, load_picture

__all__ = ["ADVICE", "MAX_PIXELS", "Picture", "is_grey", "load_picture", "png_bytes", "read_picture", "saved"]

WEBP_SIDE = 16383  # pixels, at most


class Advice(TypedDict):
    """What to do about a picture that is refused, for ``load_picture``."""

    if_clear: str
    if_large: str


# What the commands advise.
ADVICE: Advice = {
    "if_clear": "which a lossy file cannot keep; say --drop-alpha to go without",
    "if_large": "see --max-pixels",
}


def read_picture(source: str | Path | bytes, *, alpha: str = "refuse", max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """An image file (path or content) -> uint8 (H, W, 3) sRGB, or (H, W) if it is grey; by ``load_picture``'s rules."""
    return load_picture(source, alpha=alpha, max_pixels=max_pixels, **ADVICE).array


def saved(picture: np.ndarray | Image.Image, kind: str, **how) -> bytes:
    """The content of an image file of a kind, by Pillow with these settings; arrays are uint8, as pictures are."""
    out = io.BytesIO()
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    image.save(out, kind, **how)
    return out.getvalue()


def png_bytes(array: np.ndarray) -> bytes:
    """The content of a PNG file, without anything beside the picture."""
    return saved(array, "PNG")
