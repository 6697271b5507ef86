"""What has more than 8 bits per channel is refused, however a file says so."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from codec.errors import CodecError
from codec.images.pictures import read_picture

from .picture_files import PICTURE, content, png, with_byte


def sixteen_bit_png(colour, channels):
    return png(colour, 16, 4 * [bytes(range(8 * channels))])


def sixteen_bit_tiff(channels, compression):
    data = bytes(range(32 * channels))
    data = zlib.compress(data) if compression == 8 else data
    tags = [(256, 4), (257, 4), (258, 0), (259, compression), (262, 2), (273, 0), (277, channels), (278, 4)]
    tags += [(279, len(data)), (284, 1), *[(338, 2)] * (channels == 4)]
    end = 8 + 2 + 12 * len(tags) + 4
    places = {258: end, 273: end + 2 * channels}
    counts = {258: channels}
    table = b"".join(struct.pack("<HHII", t, 3, counts.get(t, 1), places.get(t, v)) for t, v in tags)
    bits = struct.pack(f"<{channels}H", *[16] * channels)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + table + bytes(4) + bits + data


def dds(fourcc=b"DX10", dxgi=95, masks=(0, 0, 0, 0)):
    flags = 4 if fourcc else 0x41
    head = struct.pack("<4s7I44x", b"DDS ", 124, 0x1007, 4, 4, 16, 0, 0)
    head += struct.pack("<II4sI4I", 32, flags, fourcc or bytes(4), 32, *masks) + struct.pack("<5I", 0x1000, 0, 0, 0, 0)
    return head + (struct.pack("<5I", dxgi, 3, 0, 1, 0) if fourcc == b"DX10" else b"") + bytes(64)


def deep_headers():
    """8-bit files whose headers are made to say that they have more."""
    image = Image.fromarray(PICTURE)
    avif = content(image, "AVIF")
    yield with_byte(avif, b"av1C", 6, lambda v: v | 0x40)
    yield with_byte(avif, b"av1C", 6, lambda v: v | 0x60)
    for options in ({}, {"no_jp2": True}):
        yield with_byte(content(image, "JPEG2000", **options), b"\xff\x4f\xff\x51", 42, lambda _: 15)
    yield content(Image.fromarray(PICTURE[..., 0].astype(np.uint16)), "JPEG2000")
    yield with_byte(content(image, "JPEG"), b"\xff\xc0", 4, lambda _: 12)
    yield from (content(image, "SGI", bpc=2), content(image.convert("L"), "SGI", bpc=2))
    yield from (dds(dxgi=kind) for kind in (2, 10, 24, 95, 96))
    yield dds(fourcc=struct.pack("<I", 113))
    yield dds(fourcc=None, masks=(0x3FF00000, 0xFFC00, 0x3FF, 0))
    yield b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH", 3, 4, 4, 16, 3) + bytes(300)
    yield b"Pf 2 2 -1.0\n" + bytes(16)


@pytest.mark.parametrize(
    "data",
    [
        *(sixteen_bit_png(*kind) for kind in ((0, 1), (2, 3), (4, 2), (6, 4))),
        *(sixteen_bit_tiff(*kind) for kind in ((3, 1), (3, 8), (4, 1), (4, 8))),
        b"P6 2 2 65535\n" + bytes(24),
        b"P6 2 2 1023\n" + bytes(24),
        *deep_headers(),
    ],
)
def test_more_than_eight_bits_are_refused_in_colour_too(data):
    with pytest.raises(CodecError, match="more than 8 bits per channel"):
        read_picture(data, alpha="keep")


def test_sixteen_bits_per_pixel_are_few_per_channel():
    head = struct.pack("<IiiHHIIiiII", 40, 2, 2, 1, 16, 3, 8, 0, 0, 0, 0) + struct.pack("<III", 0xF800, 0x7E0, 0x1F)
    data = b"BM" + struct.pack("<IHHI", 74, 0, 0, 66) + head + b"\xff\xff\0\0" * 2
    assert read_picture(data).shape == (2, 2)
