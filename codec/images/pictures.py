"""Pictures in and out: from any common file to 8-bit sRGB or grey arrays, and back to PNG."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TypedDict

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from ddpm.images.colour import is_rgb
from ddpm.images.pictures import MAX_PIXELS, Picture, is_grey, load_picture

__all__ = ["ADVICE", "MAX_PIXELS", "Picture", "is_grey", "load_picture", "png_bytes", "read_picture"]


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


def png_bytes(
    array: np.ndarray, icc: bytes | None = None, exif: bytes | None = None, xmp: bytes | None = None
) -> bytes:
    """uint8 (H, W, 3) or (H, W), with transparency or not -> the content of a PNG file, with what belongs to it.

    A profile of RGB makes the file one of RGB, since PNG lets no grey picture have it. exif: from the TIFF header on.
    """
    grey = array.ndim == 2 or array.shape[2] == 2
    if icc is not None and grey and is_rgb(icc):
        colour = array if array.ndim == 2 else array[..., 0]
        array = np.dstack([colour, colour, colour, *([array[..., 1]] if array.ndim == 3 else [])])
    options, text, out = {}, PngInfo(), io.BytesIO()
    if xmp is not None:
        text.add(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp)
        options["pnginfo"] = text
    if icc is not None:
        options["icc_profile"] = icc
    if exif is not None:
        options["exif"] = exif
    Image.fromarray(array).save(out, "PNG", **options)
    return out.getvalue()
