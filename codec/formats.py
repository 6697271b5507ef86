"""Decoded pictures as files of the common formats, by the suffix of the name."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from .errors import CodecError


@dataclass(frozen=True)
class Format:
    """How Pillow writes it; whether it keeps every value, and transparency."""

    name: str
    settings: dict = field(default_factory=dict)
    exact: bool = True
    alpha: bool = False


PNG = Format("PNG", alpha=True)
JPEG = Format("JPEG", {"quality": 95, "subsampling": 0}, exact=False)
WEBP = Format("WEBP", {"lossless": True, "exact": True}, alpha=True)  # exact: also colours that are not seen
TIFF = Format("TIFF", {"compression": "tiff_adobe_deflate"}, alpha=True)
PPM, BMP = Format("PPM"), Format("BMP")
FORMATS = {".png": PNG, ".jpg": JPEG, ".jpeg": JPEG, ".webp": WEBP, ".ppm": PPM, ".pgm": PPM, ".bmp": BMP}
FORMATS |= {".tif": TIFF, ".tiff": TIFF}

BESIDE = {"icc": "icc_profile", "exif": "exif", "xmp": "xmp"}


def format_of(name: str) -> Format:
    """By the suffix, PNG without one; CodecError for a suffix of none of FORMATS."""
    suffix = Path(name).suffix.lower()
    if suffix and suffix not in FORMATS:
        raise CodecError(f"{name}: a picture is written as {', '.join(FORMATS)}, by the end of its name")
    return FORMATS.get(suffix, PNG)


def picture_bytes(array: np.ndarray, name: str, **beside: bytes | None) -> bytes:
    """uint8 (H, W, 3) or (H, W), one more channel if transparent -> the content of a file of that name.

    beside: icc (a colour profile), exif and xmp, for formats that have a place for them. CodecError for what the format
    cannot hold.
    """
    kind, suffix = format_of(name), Path(name).suffix.lower()
    beside = {BESIDE[what]: data for what, data in beside.items() if data is not None}
    image = Image.fromarray(array)
    if "A" in image.mode and not kind.alpha:
        raise CodecError(f"{name}: the picture has transparency, which {suffix} cannot hold; .png, .webp and .tif can")
    if suffix == ".pgm" and image.mode != "L":
        raise CodecError(f"{name}: the picture has colours, which .pgm cannot hold; .ppm can")
    if suffix == ".ppm":
        image = image.convert("RGB")
    out = io.BytesIO()
    try:
        image.save(out, kind.name, **kind.settings, **beside)
    except (OSError, ValueError) as e:
        raise CodecError(f"{name}: {kind.name} does not take {image.width}x{image.height} pixels: {e}") from None
    return out.getvalue()
