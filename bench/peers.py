"""Classical codecs at their own best settings, through Pillow; sizes are those of whole files."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
from PIL import Image

Encoder = Callable[[np.ndarray, int], bytes]


def _saver(kind: str, **options) -> Encoder:
    def encode(array: np.ndarray, quality: int) -> bytes:
        out = io.BytesIO()
        Image.fromarray(array).save(out, kind, quality=quality, **options)
        return out.getvalue()

    return encode


PEERS: dict[str, Encoder] = {
    "JPEG": _saver("JPEG", optimize=True, progressive=True),
    "WebP": _saver("WEBP", method=6),
}


def lossless(picture: np.ndarray) -> dict[str, int]:
    """Bytes of a picture as PNG and as lossless WebP."""
    sizes = {}
    for kind, how in {"PNG": {"optimize": True}, "WebP": {"lossless": True, "quality": 100, "method": 6}}.items():
        data = io.BytesIO()
        Image.fromarray(picture).save(data, kind, **how)
        sizes[kind] = data.tell()
    return sizes


def at_least(encoder: Encoder, array: np.ndarray, n_bytes: int) -> bytes:
    """The smallest file of this encoder that has at least so many bytes, over qualities 1 to 100.

    If even quality 100 is smaller, that file. Sizes grow with quality, nearly; a bisection finds the turn.
    """
    low, high = 1, 100
    while low < high:
        middle = (low + high) // 2
        if len(encoder(array, middle)) >= n_bytes:
            high = middle
        else:
            low = middle + 1
    return encoder(array, low)
