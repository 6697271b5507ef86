"""EXIF and XMP: pictures are read upright, whatever else is wrong with what they say."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps

from codec.images.formats import picture_bytes
from codec.images.pictures import load_picture, read_picture
from ddpm.images import exif as exif_module

from .picture_files import P3, PICTURE, content, exif_of, rgb_png


def test_orientation_is_applied():
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees
    turned = read_picture(content(Image.fromarray(PICTURE), exif=exif))
    assert np.array_equal(turned, np.rot90(PICTURE, -1))


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_the_library_s(orientation, order):
    data = content(Image.fromarray(PICTURE), exif=exif_of(orientation, order))
    with Image.open(io.BytesIO(data)) as image:
        expected = np.asarray(ImageOps.exif_transpose(image))
        assert np.array_equal(load_picture(image).array, expected)
    assert np.array_equal(read_picture(data), expected)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF", "JPEG", "AVIF", "MPO"])
def test_orientation_in_every_format_that_has_it(kind):
    exif = Image.Exif()
    exif[0x0112] = 6
    exact = {"lossless": True} if kind == "WEBP" else {}
    plain, turned = (read_picture(content(Image.fromarray(PICTURE), kind, **exact, **e)) for e in ({}, {"exif": exif}))
    assert np.array_equal(turned, np.rot90(plain, -1))


def test_orientation_stands_in_xmp_or_text_where_there_is_no_exif():
    xmp = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    itxt = b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp
    assert np.array_equal(read_picture(rgb_png(itxt)), np.rot90(PICTURE, -1))
    raw = b"\nexif\n      26\n" + (b"Exif\0\0" + exif_of(6)).hex().encode() + b"\n"
    ztxt = b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(raw)
    assert np.array_equal(read_picture(rgb_png(ztxt)), np.rot90(PICTURE, -1))


ODD = (  # beside the orientation: of a type that its tag has not, of no type, outside the file, a directory nowhere
    (0x010F, 11, 1, b"\0\0\xc0\x7f"),
    (0x011A, 5, 1, b"\xff\xff\xff\x7f"),
    (0x0100, 2, 3, b"abc\0"),
    (0x9286, 99, 1, b"\0\0\0\0"),
    (0x8769, 4, 1, b"\xff\xff\xff\x0f"),
    (0x8825, 2, 4, b"none"),
    (0x0201, 4, 1, b"\xff\0\0\0"),
)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "JPEG", "AVIF"])
@pytest.mark.parametrize("odd", [*ODD, None])
def test_odd_exif_is_in_nobody_s_way(kind, odd):
    exif = exif_of(6, more=[odd]) if odd else b"II*\0\xff\xff\xff\xff"
    image, exact = Image.fromarray(PICTURE), {"lossless": True} if kind == "WEBP" else {}
    plain = read_picture(content(image, kind, **exact))
    if kind == "PNG":
        data = rgb_png((b"eXIf", exif))
    else:  # put in place of one of the same length: the library would put it right, or refuse it
        good = exif_of(1, more=[(0x0100, 3, 1, b"\1\0\0\0")]).replace(b"\x12\x01", b"\x0e\x01")
        exif = exif.ljust(len(good), b"\0")
        data = content(image, kind, exif=b"Exif\0\0" + good if kind == "JPEG" else good, **exact)
        assert good in data
        data = data.replace(good, exif)
    for alpha, colours in (("keep", "stored"), ("refuse", "srgb")):
        array = load_picture(data, alpha=alpha, colours=colours, metadata=True).array
        if kind != "AVIF":  # there boxes of its own say it
            array = np.rot90(array, 1) if odd else array
        assert np.array_equal(array, plain)


def test_tiff_does_without_its_odd_tags():
    exif = Image.Exif()
    exif[0x0112] = 8
    data = content(Image.fromarray(PICTURE), "TIFF", exif=exif, icc_profile=P3)
    entries = struct.unpack_from("<H", data, struct.unpack_from("<I", data, 4)[0])[0]
    assert entries > 10
    for kind in (2, 5, 11, 13, 99):  # the profile's tag becomes that of GPS, of another type
        odd = data.replace(struct.pack("<HH", 34675, 7), struct.pack("<HH", 34853, kind))
        assert odd != data
        assert np.array_equal(read_picture(odd), np.rot90(PICTURE, 1))


def test_large_and_damaged_texts_do_not_matter():
    large = b"zTXt", b"Comment\0\0" + zlib.compress(bytes(1_500_000))
    assert np.array_equal(read_picture(rgb_png(large)), PICTURE)
    many = [(b"iTXt", b"Key%d\0\1\0\0\0" % i + zlib.compress(bytes(3_000_000))) for i in range(24)]
    assert np.array_equal(read_picture(rgb_png(*many)), PICTURE)
    for odd in ((b"tEXt", b""), (b"zTXt", b"Raw profile type exif\0\0junk"), (b"iTXt", b"XML:com.adobe.xmp\0\1")):
        assert np.array_equal(load_picture(rgb_png(odd), metadata=True).array, PICTURE)
    raw = b"Raw profile type exif\0\nexif\n 4\nzz\n"
    assert np.array_equal(read_picture(rgb_png((b"tEXt", raw))), PICTURE)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "AVIF"])
def test_exif_and_xmp_come_along_upright(kind):
    exif, xmp = Image.Exif(), b'<x:xmpmeta xmlns:x="adobe:ns:meta/" tiff:Orientation="6">a</x:xmpmeta>'
    exif[0x0112], exif[0x010F] = 6, "maker"
    data = content(Image.fromarray(PICTURE), kind, exif=exif, xmp=xmp) if kind != "PNG" else None
    if kind == "PNG":
        data = picture_bytes(PICTURE, "a.png", exif=exif.tobytes(), xmp=xmp)
    picture = load_picture(data, metadata=True)
    assert picture.array.shape == (20, 12, 3)
    assert picture.xmp == xmp.replace(b'"6"', b'"1"')
    assert not picture.exif.startswith(b"Exif")
    for again in (load_picture(picture_bytes(picture.array, "a.png", None, picture.exif, picture.xmp), metadata=True),):
        assert np.array_equal(again.array, picture.array)
        assert (again.exif, again.xmp) == (picture.exif, picture.xmp)
    found = Image.Exif()
    found.load(picture.exif)
    assert (found[0x0112], found[0x010F]) == (1, "maker")
    assert load_picture(data).exif is None
    assert load_picture(data).xmp is None


def test_the_thumbnail_of_a_turned_picture_goes():
    def with_thumbnail(orientation, order):
        first = exif_of(orientation, order, link=26)
        entries = [(0x0201, 4, 1, 56), (0x0202, 4, 1, 5)]
        second = struct.pack(order + "H", 2) + b"".join(struct.pack(order + "HHII", *e) for e in entries) + bytes(4)
        return first + second + b"small"

    for order in "<>":
        assert exif_module.upright(with_thumbnail(1, order)) == with_thumbnail(1, order)
        turned = exif_module.upright(b"Exif\0\0" + with_thumbnail(6, order))
        assert exif_module.orientation(turned) == 1
        assert b"small" not in turned
        assert turned[22:26] == bytes(4)
