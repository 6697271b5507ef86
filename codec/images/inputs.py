"""What ``Codec.encode`` is given, as pictures; whatever it cannot take is a CodecError that says what is wanted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from codec.errors import CodecError

from .alpha import plain
from .pictures import ADVICE, MAX_PIXELS, Picture, load_picture

KINDS = "uint8 arrays (H, W, 3) or (H, W), with one channel more if transparent, PIL images, paths or Pictures"


def as_pictures(given, lossless: bool, metadata: bool = False, max_pixels: int = MAX_PIXELS) -> list[Picture]:
    """One picture or several, of the ``KINDS``. Lossless ones keep transparency and the colours that are stored."""
    if not is_one(given) and (not hasattr(given, "__iter__") or isinstance(given, (bytes, dict))):
        raise CodecError(f"pictures are {KINDS}, not {type(given).__name__}")
    pictures = [given] if is_one(given) else list(given)
    if not pictures:
        raise CodecError("there is no picture to encode")
    return [_as_picture(p, lossless, metadata, max_pixels) for p in pictures]


def is_one(given) -> bool:
    """Whether what is given is one picture by itself."""
    return isinstance(given, (Image.Image, Picture, str, Path)) or (isinstance(given, np.ndarray) and given.ndim != 4)


def _as_picture(given, lossless: bool, metadata: bool, max_pixels: int) -> Picture:
    how = {"max_pixels": max_pixels, "alpha": "keep" if lossless else "refuse", **ADVICE}
    if isinstance(given, (str, Path, Image.Image)):
        return load_picture(given, colours="stored" if lossless else "srgb", metadata=metadata, **how)
    array = given.array if isinstance(given, Picture) else given
    if not isinstance(array, np.ndarray):
        raise CodecError(f"pictures are {KINDS}, not {type(array).__name__}")
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or array.shape[2:] not in ((), (2,), (3,), (4,)):
        raise CodecError(f"pictures are {KINDS}, not an array of {array.dtype} {array.shape}")
    if not array.size:
        raise CodecError(f"an empty picture, {array.shape}")
    if array is given:
        return load_picture(Image.fromarray(np.ascontiguousarray(array)), **how)
    height, width = array.shape[:2]
    if height * width > max_pixels:
        raise CodecError(f"{width}x{height} pixels; at most {max_pixels} (see --max-pixels)")
    array = plain(array)
    if array.ndim == 3 and array.shape[2] != 3 and not lossless:
        raise CodecError(f"it has transparency, {ADVICE['if_clear']}")
    return replace(given, array=array)
