"""EXIF and XMP as far as pixels depend on them: the orientation, read alone, so that nothing else can be in the way."""

from __future__ import annotations

import re
import struct

import numpy as np

ORIENTATION = 0x0112
THUMBNAIL = 0x0201, 0x0202  # where in the file, how many bytes
XMP_ORIENTATION = re.compile(rb"""(tiff:Orientation\s*=\s*["']|<tiff:Orientation>\s*)([1-8])(?![0-9])""")
TURNS = {
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: a[::-1].swapaxes(0, 1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: a[:, ::-1].swapaxes(0, 1),
}


def orientation(exif: bytes | None, xmp: bytes | None = None) -> int:
    """1 to 8, of EXIF or, if that has none, of XMP; 1 where there is none to be read."""
    if exif and (found := _find(_tiff(exif))):
        return found[1]
    found = XMP_ORIENTATION.search(xmp or b"")
    return int(found[2]) if found else 1


def turned(array: np.ndarray, orientation: int) -> np.ndarray:
    """A picture (H, W, ...) as it is to be seen."""
    return np.ascontiguousarray(TURNS[orientation](array)) if orientation in TURNS else array


def upright(exif: bytes) -> bytes:
    """EXIF (from the TIFF header on) of a picture that has been turned: orientation 1, no thumbnail of before."""
    data = bytearray(_tiff(exif))
    found = _find(data)
    if not found or found[1] == 1:
        return bytes(data)
    at, _, order, link = found
    struct.pack_into(order + "H", data, at, 1)
    try:
        (second,) = struct.unpack_from(order + "I", data, link)
        entries = dict(_entries(data, second, order)[0]) if second else {}
        start, size = (struct.unpack_from(order + "I", data, entries[tag])[0] for tag in THUMBNAIL)
        data[start : start + size] = bytes(len(data[start : start + size]))
    except (struct.error, KeyError):
        pass
    struct.pack_into(order + "I", data, link, 0)
    return bytes(data)


def upright_xmp(xmp: bytes) -> bytes:
    """XMP of a picture that has been turned."""
    return XMP_ORIENTATION.sub(rb"\g<1>1", xmp)


def _tiff(exif: bytes) -> bytes:
    while exif.startswith(b"Exif\0\0"):
        exif = exif[6:]
    return exif


def _entries(data, at: int, order: str):
    """[(tag, where its value is)] of the directory at a place, and where the link to the next one is."""
    (count,) = struct.unpack_from(order + "H", data, at)
    end = at + 2 + 12 * count
    if end + 4 > len(data):
        raise struct.error("the directory is cut")
    return [(struct.unpack_from(order + "H", data, i)[0], i + 8) for i in range(at + 2, end, 12)], end


def _find(data) -> tuple[int, int, str, int] | None:
    """Where the orientation is, its value, the byte order, where the link to the next directory is."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(bytes(data[:4]))
    if order is None:
        return None
    try:
        entries, link = _entries(data, struct.unpack_from(order + "I", data, 4)[0], order)
        for tag, at in entries:
            if tag == ORIENTATION:
                kind, count, value = struct.unpack_from(order + "HIH", data, at - 6)
                return (at, value, order, link) if kind == 3 and count == 1 and 1 <= value <= 8 else None
    except struct.error:
        pass
    return None
