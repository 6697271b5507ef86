"""Files of pictures, by the library or by hand with what it does not write."""

import io
import struct
import zlib

from PIL import ImageCms

from ddpm.images.colour import PRIMARIES, SRGB_CURVE, make_profile
from tests.conftest import smooth_picture

PICTURE = smooth_picture(12, 20)


def content(image, kind="PNG", **options):
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def exif_of(orientation, order="<", more=(), link=0):
    """EXIF by hand: entries (tag, type, count, value as 4 bytes)."""
    entries = [(0x0112, 3, 1, struct.pack(order + "HH", orientation, 0)), *more]
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "IH", 8, len(entries))
    return head + b"".join(struct.pack(order + "HHI4s", *e) for e in entries) + struct.pack(order + "I", link)


SRGB_PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()

P3 = make_profile(PRIMARIES[12], SRGB_CURVE)


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(colour, depth, rows, *chunks):
    """A PNG by hand, with what Pillow does not write; rows: packed bytes of each row."""
    width = 8 * len(rows[0]) // depth // {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    head = struct.pack(">IIBBBBB", width, len(rows), depth, colour, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + bytes(row) for row in rows))
    chunks = b"".join(chunk(*c) for c in chunks)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunks + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def rgb_png(*chunks, array=PICTURE):
    return png(0 if array.ndim == 2 else 2, 8, [row.tobytes() for row in array], *chunks)


def chrm(values):
    return b"cHRM", struct.pack(">8I", *(round(v * 1e5) for v in values))


def gama(value):
    return b"gAMA", struct.pack(">I", round(value * 1e5))


def cicp(*codes):
    return b"cICP", bytes(codes)


def iccp(profile):
    return b"iCCP", b"x\0\0" + zlib.compress(profile)


def with_byte(data, mark, offset, change):
    """The data with one byte changed, ``offset`` after ``mark``."""
    data, at = bytearray(data), data.index(mark) + offset
    data[at] = change(data[at])
    return bytes(data)
