"""Decoded pictures as files of the common formats, by the suffix of the name."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from codec.errors import CodecError
from ddpm.images.colour import is_rgb

from .pictures import saved


@dataclass(frozen=True)
class Format:
    """How Pillow writes it; whether it keeps every value, and transparency."""

    name: str
    settings: dict = field(default_factory=dict)
    lossless: bool = True
    alpha: bool = False
    metadata: bool = False  # whether a profile, EXIF and XMP have a place in it
    profile: bool = False  # whether a profile has


PNG = Format("PNG", alpha=True, metadata=True)
JPEG = Format("JPEG", {"quality": 95, "subsampling": 0}, lossless=False, metadata=True)
# "exact": also colours that are not seen
WEBP = Format("WEBP", {"lossless": True, "exact": True}, alpha=True, metadata=True)
TIFF = Format("TIFF", {"compression": "tiff_adobe_deflate"}, alpha=True, profile=True)
PPM, BMP = Format("PPM"), Format("BMP")
FORMATS = {".png": PNG, ".jpg": JPEG, ".jpeg": JPEG, ".webp": WEBP, ".ppm": PPM, ".pgm": PPM, ".bmp": BMP}
FORMATS |= {".tif": TIFF, ".tiff": TIFF}


def format_of(name: str) -> Format:
    """By the suffix, PNG without one; CodecError for a suffix of none of FORMATS."""
    suffix = Path(name).suffix.lower()
    if suffix and suffix not in FORMATS:
        raise CodecError(f"{name}: a picture is written as {', '.join(FORMATS)}, by the end of its name")
    return FORMATS.get(suffix, PNG)


def picture_bytes(
    array: np.ndarray, name: str, icc: bytes | None = None, exif: bytes | None = None, xmp: bytes | None = None
) -> bytes:
    """uint8 (H, W, 3) or (H, W), one more channel if transparent -> the content of a file of that name.

    With a profile of its colours, EXIF (from the TIFF header on) and XMP, the latter two where the format has a place
    for them. A profile of RGB makes the file one of RGB, since grey pictures cannot have it. CodecError for what the
    format cannot hold.
    """
    kind, suffix = format_of(name), Path(name).suffix.lower()
    if icc is not None and not (kind.metadata or kind.profile):
        raise CodecError(f"{name}: the picture has a colour profile, which {suffix} cannot hold; .png and .webp can")
    image = Image.fromarray(array)
    if icc is not None and is_rgb(icc) and image.mode in ("L", "LA"):
        image = image.convert("RGB" if image.mode == "L" else "RGBA")
    beside: dict[str, Any] = {"icc_profile": icc}
    if kind.metadata:
        beside |= {"exif": exif and b"Exif\0\0" + exif, "xmp": xmp}
    beside = {what: data for what, data in beside.items() if data is not None}
    if kind is PNG and "xmp" in beside:
        beside["pnginfo"] = PngInfo()
        beside["pnginfo"].add(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + beside.pop("xmp"))
    if "A" in image.mode and not kind.alpha:
        raise CodecError(f"{name}: the picture has transparency, which {suffix} cannot hold; .png, .webp and .tif can")
    if suffix == ".pgm" and image.mode != "L":
        raise CodecError(f"{name}: the picture has colours, which .pgm cannot hold; .ppm can")
    if suffix == ".ppm":
        image = image.convert("RGB")
    try:
        return saved(image, kind.name, **kind.settings, **beside)
    except (OSError, ValueError) as e:
        raise CodecError(f"{name}: {kind.name} does not take {image.width}x{image.height} pixels: {e}") from None
