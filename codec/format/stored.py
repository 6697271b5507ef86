"""A picture stored as it is, for those that a lossless image format has in less than the model would take.

The part is the content of a PNG file, or of a lossless WebP file without its first 20 bytes, which say nothing new. Of
a picture of one colour there is nothing to say beyond the header's, so its part is empty.
"""

from __future__ import annotations

import numpy as np

from codec.errors import DamagedFile
from codec.images.alpha import split
from codec.images.pictures import WEBP_SIDE, is_grey, saved
from ddpm.images.pictures import open_unlimited

from .container import METADATA

SIGNATURE = b"\x2f"  # of the content of a lossless WebP


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
    """uint8 (H, W, 3), (H, W), (H, W, 4) or (H, W, 2) -> the part, the shortest there is that gives it back."""
    colour, size = colour_of(array), array.shape[:2]
    if split(array)[1] is None and np.array_equal(array, of_colour(colour, size)):
        return b""
    files = [saved(array, "PNG", optimize=True)]
    if max(size) <= WEBP_SIDE:
        webp = _webp(array, quality=100, method=6)
        files += [webp[20 : 20 + int.from_bytes(webp[16:20], "little")]] if webp[12:16] == b"VP8L" else []
    # A WebP forgets transparency that hides nothing.
    return next(file for file in sorted(files, key=len) if np.array_equal(unpack(file, colour, size), array))


def about(array: np.ndarray) -> int:
    """Roughly the bytes that ``pack`` will take, or somewhat more, at a fraction of its time."""
    return len(_webp(array, quality=0, method=0)) - 20 if max(array.shape[:2]) <= WEBP_SIDE else len(pack(array))


def unpack(part: bytes, colour: bytes, size: tuple[int, int]) -> np.ndarray:
    """The inverse of ``pack``; DamagedFile if the part has no picture of that size, grey if ``colour`` is one level."""
    if not part:
        return of_colour(colour, size)
    kind = "PNG"
    if part[:1] == SIGNATURE:
        content = b"WEBPVP8L" + len(part).to_bytes(4, "little") + part + b"\0" * (len(part) % 2)
        kind, part = "WEBP", b"RIFF" + len(content).to_bytes(4, "little") + content
    try:
        image = open_unlimited(part, kind)
        if image.size != size[::-1] or image.mode not in ("L", "LA", "RGB", "RGBA"):
            raise DamagedFile("the stored picture is not the one that the header gives")
        array = np.array(image)
    except DamagedFile:
        raise
    except Exception:  # whatever a library says of bytes that it did not expect
        raise DamagedFile("the stored picture is damaged") from None
    grey = array.ndim == 2 or array.shape[2] == 2
    if len(colour) == (1 if grey else 3):
        return array
    if grey or not is_grey(array[..., :3]):
        raise DamagedFile("the stored picture is not of the colours that the header gives")
    return np.ascontiguousarray(array[..., 0] if array.shape[2] == 3 else array[..., [0, 3]])


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
    return saved(array, "WebP", lossless=True, exact=True, **how)
