"""Transparency beside the colour: kept exactly, as a small picture in a format of its own."""

from __future__ import annotations

import numpy as np

from codec.errors import CodecError, DamagedFile

from .pictures import WEBP_SIDE, is_grey, read_picture, saved


def split(array: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """Colour, (H, W, 3) or (H, W), and alpha (H, W) or None of uint8 (H, W, 4), (H, W, 2), (H, W, 3) or (H, W)."""
    if array.ndim == 2 or array.shape[2] == 3:
        return array, None
    colour = array[..., :-1] if array.shape[2] == 4 else array[..., 0]
    return np.ascontiguousarray(colour), np.ascontiguousarray(array[..., -1])


def joined(colour: np.ndarray, alpha: np.ndarray | None) -> np.ndarray:
    """The inverse of ``split``."""
    return colour if alpha is None else np.dstack([colour, alpha])


def plain(array: np.ndarray) -> np.ndarray:
    """The same without channels that say nothing: colours that are all equal, transparency where there is none."""
    colour, alpha = split(array)
    if colour.ndim == 3 and is_grey(colour):
        colour = np.ascontiguousarray(colour[..., 0])
    return joined(colour, None if alpha is None or alpha.min() == 255 else alpha)


def pack(alpha: np.ndarray) -> bytes:
    """(H, W) uint8 -> a PNG or a lossless WebP, whichever is smaller."""
    files = [saved(alpha, "PNG", optimize=True)]
    if max(alpha.shape) <= WEBP_SIDE:
        files.append(saved(alpha, "WebP", lossless=True, quality=100, method=6))
    return min(files, key=len)


def unpack(data: bytes, size: tuple[int, int]) -> np.ndarray:
    """The inverse of ``pack``; DamagedFile if it is not of that size (height, width)."""
    if data[:4] not in (b"\x89PNG", b"RIFF"):
        raise DamagedFile("the transparency is damaged")
    try:
        alpha = read_picture(data, max_pixels=size[0] * size[1])
    except CodecError:
        raise DamagedFile("the transparency is damaged") from None
    if alpha.shape != tuple(size):
        raise DamagedFile("the transparency is not of the picture's size")
    return alpha
