"""A picture stored as it is, for those that a lossless image format has in less than the model would take.

The part is the content of a PNG file, or of a lossless WebP file without its first 20 bytes, which say nothing new. Of
a picture of one colour there is nothing to say beyond the header's, so its part is empty.
"""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from .alpha import split
from .container import METADATA
from .errors import CodecError, DamagedFile
from .pictures import load_picture

WEBP_SIDE = 16383  # pixels, at most
SIGNATURE, PNG = b"\x2f", b"\x89PNG"  # of the content of a lossless WebP, and of a PNG


def colour_of(array: np.ndarray) -> bytes:
    """The mean of a picture (H, W, 3) or (H, W), or with one channel more, which does not count: a byte a channel."""
    colour = split(array)[0]
    return np.rint(colour.reshape(array.shape[0] * array.shape[1], -1).mean(0)).astype(np.uint8).tobytes()


def of_colour(colour: bytes, size: tuple[int, int]) -> np.ndarray:
    """The picture (H, W, 3) or (H, W) of one colour."""
    plain = np.empty((*size, len(colour)), np.uint8)
    plain[:] = np.frombuffer(colour, np.uint8)
    return plain if len(colour) == 3 else plain[..., 0]


def pack(array: np.ndarray) -> bytes:
    """uint8 (H, W, 3), (H, W), (H, W, 4) or (H, W, 2) -> the part, the shortest there is."""
    if split(array)[1] is None and np.array_equal(array, of_colour(colour_of(array), array.shape[:2])):
        return b""
    files = [_saved(array, "PNG", optimize=True)]
    if max(array.shape[:2]) <= WEBP_SIDE:
        webp = _webp(array, quality=100, method=6)
        files += [webp[20 : 20 + int.from_bytes(webp[16:20], "little")]] if webp[12:16] == b"VP8L" else []
    return min(files, key=len)


def about(array: np.ndarray) -> int:
    """Roughly the bytes that ``pack`` will take, or somewhat more, at a fraction of its time."""
    return len(_webp(array, quality=0, method=0)) if max(array.shape[:2]) <= WEBP_SIDE else len(pack(array))


def unpack(part: bytes, colour: bytes, size: tuple[int, int]) -> np.ndarray:
    """The inverse of ``pack``; DamagedFile if the part has no picture of that size, grey if ``colour`` is one level."""
    if not part:
        return of_colour(colour, size)
    try:
        if part[:1] == SIGNATURE:
            bits = int.from_bytes(part[1:5].ljust(4, b"\0"), "little")
            if ((bits >> 14 & 16383) + 1, (bits & 16383) + 1) != size:
                raise DamagedFile("the stored picture is not of the size that the header gives")
            padded = part + b"\0" * (len(part) % 2)
            content = b"WEBPVP8L" + len(part).to_bytes(4, "little") + padded
            part = b"RIFF" + len(content).to_bytes(4, "little") + content
        elif not part.startswith(PNG):
            raise DamagedFile("the stored picture is of no format that can be")
        array = load_picture(part, alpha="keep", colours="stored", max_pixels=size[0] * size[1]).array
    except DamagedFile:
        raise
    except CodecError:
        raise DamagedFile("the stored picture is damaged") from None
    if array.shape[:2] != size:
        raise DamagedFile("the stored picture is not of the size that the header gives")
    if (array.ndim == 2 or array.shape[2] == 2) != (len(colour) == 1):
        raise DamagedFile("the stored picture is not of the colours that the header gives")
    return array


def longest(size: tuple[int, int]) -> int:
    """Bytes that no part of a picture of this size has."""
    return 8 * size[0] * size[1] + METADATA


def smaller(array: np.ndarray, scale: int) -> np.ndarray:
    """The mean of each scale x scale pixels, rounded; at the far edges of those that are left."""
    for axis in (0, 1):
        at = np.arange(0, array.shape[axis], scale)
        shape = [1] * array.ndim
        shape[axis] = -1
        counts = np.minimum(scale, array.shape[axis] - at).reshape(shape)
        array = np.add.reduceat(array.astype(np.float64), at, axis) / counts
    return np.rint(array).astype(np.uint8)


def _webp(array: np.ndarray, **how) -> bytes:
    return _saved(array, "WebP", lossless=True, exact=True, **how)


def _saved(array: np.ndarray, kind: str, **how) -> bytes:
    out = io.BytesIO()
    Image.fromarray(array).save(out, kind, **how)
    return out.getvalue()
