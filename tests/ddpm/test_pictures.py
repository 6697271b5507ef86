import contextlib
import io
import os
import struct
import threading
import tracemalloc
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps

from codec.errors import CodecError
from codec.images.pictures import load_picture, png_bytes, read_picture, to_array
from ddpm.files import write_whole
from ddpm.images import exif as exif_module
from ddpm.images.colour import PRIMARIES, SRGB, SRGB_CURVE, make_profile
from ddpm.images.pictures import suffixes
from tests.conftest import smooth_picture

PICTURE = smooth_picture(12, 20)


def content(image, kind="PNG", **options):
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def test_png_round_trip():
    assert np.array_equal(read_picture(png_bytes(PICTURE)), PICTURE)
    assert np.array_equal(read_picture(png_bytes(PICTURE[..., 0])), PICTURE[..., 0])


def test_orientation_is_applied():
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees
    turned = read_picture(content(Image.fromarray(PICTURE), exif=exif))
    assert np.array_equal(turned, np.rot90(PICTURE, -1))


def exif_of(orientation, order="<", more=(), link=0):
    """EXIF by hand: entries (tag, type, count, value as 4 bytes)."""
    entries = [(0x0112, 3, 1, struct.pack(order + "HH", orientation, 0)), *more]
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "IH", 8, len(entries))
    return head + b"".join(struct.pack(order + "HHI4s", *e) for e in entries) + struct.pack(order + "I", link)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_the_library_s(orientation, order):
    data = content(Image.fromarray(PICTURE), exif=exif_of(orientation, order))
    with Image.open(io.BytesIO(data)) as image:
        expected = np.asarray(ImageOps.exif_transpose(image))
        assert np.array_equal(to_array(image), expected)
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


SRGB_PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
P3 = make_profile(PRIMARIES[12], SRGB_CURVE)


def to_srgb_exactly(array, chromaticities, gamma=None):
    """Float maths: levels of some primaries and curve (sRGB's without gamma) -> levels of sRGB."""

    def matrix(values):
        white, *colours = [np.array([x / y, 1, (1 - x - y) / y]) for x, y in zip(values[::2], values[1::2])]
        colours = np.stack(colours, 1)
        return colours * np.linalg.solve(colours, white)

    v = array / 255
    light = np.where(v <= 0.04045, v / 12.92, ((v + 0.055) / 1.055) ** 2.4) if gamma is None else v ** (1 / gamma)
    light = np.clip(light @ (np.linalg.inv(matrix(SRGB)) @ matrix(chromaticities)).T, 0, 1)
    return 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


def close(array, expected):
    return np.abs(array - expected).max() < 1.6


def chrm(values):
    return b"cHRM", struct.pack(">8I", *(round(v * 1e5) for v in values))


def gama(value):
    return b"gAMA", struct.pack(">I", round(value * 1e5))


def cicp(*codes):
    return b"cICP", bytes(codes)


def iccp(profile):
    return b"iCCP", b"x\0\0" + zlib.compress(profile)


def test_profiles_are_converted_to_srgb_and_srgb_stays():
    converted = load_picture(content(Image.fromarray(PICTURE), icc_profile=P3))
    assert converted.converted
    assert converted.icc is None
    assert close(converted.array, to_srgb_exactly(PICTURE, PRIMARIES[12]))
    rounded = make_profile((*SRGB[:2], *(v + 0.0001 for v in SRGB[2:])), SRGB_CURVE)
    source, target = ImageCms.ImageCmsProfile(io.BytesIO(rounded)), ImageCms.createProfile("sRGB")
    moved = np.asarray(ImageCms.profileToProfile(Image.fromarray(CUBE), source, target, outputMode="RGB"))
    assert 0.001 < (moved != CUBE).mean() < 0.05  # what is not to happen
    other = make_profile((*SRGB[:2], *(v + 0.005 for v in SRGB[2:])), SRGB_CURVE)
    assert load_picture(rgb_png(iccp(other))).converted
    for profile in (SRGB_PROFILE, make_profile(SRGB, SRGB_CURVE), rounded):
        for kind, exact in (("PNG", {}), ("WEBP", {"lossless": True, "exact": True}), ("TIFF", {})):
            same = load_picture(content(Image.fromarray(CUBE), kind, icc_profile=profile, **exact))
            assert np.array_equal(same.array, CUBE)
            assert not same.converted
            assert same.warnings == ()


CUBE = np.stack(np.meshgrid(*[np.arange(0, 256, 3, dtype=np.uint8)] * 2, [0, 90, 255]), -1).astype(np.uint8)
CUBE = CUBE.reshape(len(CUBE), -1, 3)


def test_png_says_its_colours_in_four_ways_of_which_the_first_counts():
    p3 = to_srgb_exactly(PICTURE, PRIMARIES[12])
    linear = to_srgb_exactly(PICTURE, SRGB, 1.0)
    srgb, wide = (b"sRGB", b"\0"), make_profile(PRIMARIES[9], SRGB_CURVE)
    for chunks, expected in [
        ([cicp(12, 13, 0, 1)], p3),
        ([iccp(P3)], p3),
        ([chrm(PRIMARIES[12])], p3),
        ([gama(1.0)], linear),
        ([gama(1.0), chrm(PRIMARIES[12])], to_srgb_exactly(PICTURE, PRIMARIES[12], 1.0)),
        ([gama(1 / 1.8)], to_srgb_exactly(PICTURE, SRGB, 1 / 1.8)),
        ([gama(0.45455), chrm(SRGB)], PICTURE),
        ([gama(0.45455)], PICTURE),
        ([gama(0.4545), chrm((0.31269, 0.32899, 0.63999, 0.33001, 0.3, 0.6, 0.15, 0.05999))], PICTURE),
        ([chrm(SRGB)], PICTURE),
        ([srgb, gama(1.0), chrm(PRIMARIES[12])], PICTURE),
        ([gama(1.0), srgb], PICTURE),
        ([iccp(P3), srgb, gama(1.0)], p3),
        ([gama(1.0), iccp(P3), cicp(1, 13, 0, 1)], PICTURE),
        ([iccp(wide), cicp(12, 13, 0, 1)], p3),
        ([cicp(1, 8, 0, 1)], linear),
        ([cicp(2, 2, 0, 1)], PICTURE),
    ]:
        picture = load_picture(rgb_png(*chunks))
        if expected is PICTURE:
            assert np.array_equal(picture.array, PICTURE)
            assert not picture.converted
        else:
            assert close(picture.array, expected)
            assert picture.converted
        assert picture.warnings == ()


@pytest.mark.parametrize(
    ("codes", "words"),
    [((9, 16, 0, 1), "PQ"), ((9, 18, 0, 1), "HLG"), ((10, 13, 0, 1), "cICP 10"), ((1, 13, 0, 0), "narrow")],
)
def test_colours_that_eight_bits_of_srgb_cannot_follow(codes, words):
    for colours in ("srgb", "stored"):
        with pytest.raises(CodecError, match=words):
            load_picture(rgb_png(cicp(*codes)), colours=colours)


def test_avif_of_other_primaries_and_hdr():
    data = content(Image.fromarray(PICTURE), "AVIF", quality=100, subsampling="4:4:4")
    plain, at = read_picture(data), data.index(b"nclx") + 4
    for codes, expected in (((12, 13), to_srgb_exactly(plain, PRIMARIES[12])), ((1, 1), plain), ((2, 2), plain)):
        assert close(read_picture(data[:at] + struct.pack(">HH", *codes) + data[at + 4 :]), expected)
    with pytest.raises(CodecError, match="PQ"):
        read_picture(data[:at] + struct.pack(">HH", 9, 16) + data[at + 4 :])


def test_what_is_odd_about_colours_is_said_in_one_line():
    grey = PICTURE[..., 0]
    dim = make_profile(SRGB, (1.0,), grey=True)
    for data, expected, words in [
        (rgb_png(iccp(P3), array=grey), grey, "its ICC profile is of RGB, the picture is grey"),
        (rgb_png(iccp(SRGB_PROFILE), array=grey), grey, "its ICC profile is of RGB, the picture is grey"),
        (rgb_png(iccp(dim)), PICTURE, "of another colour space"),
        (rgb_png(iccp(b"no profile")), PICTURE, "its ICC profile is damaged"),
        (rgb_png(iccp(P3[:200])), PICTURE, "its ICC profile is damaged"),
        (rgb_png((b"iCCP", b"x\0\0junk")), PICTURE, "iCCP chunk is damaged"),
        (rgb_png((b"gAMA", b"\0")), PICTURE, "gAMA chunk is damaged"),
        (rgb_png((b"gAMA", bytes(4))), PICTURE, "makes no sense"),
        (rgb_png(chrm((0.3, 0, *SRGB[2:]))), PICTURE, "makes no sense"),
        (rgb_png(chrm((*SRGB[:2], *3 * SRGB[2:4]))), PICTURE, "makes no sense"),
        (rgb_png(iccp(P3)).replace(b"iCCPx", b"iCCPy"), PICTURE, "iCCP chunk is damaged"),  # its checksum is wrong
    ]:
        picture = load_picture(data, name="it")
        assert np.array_equal(picture.array, expected)
        [line] = picture.warnings
        assert line.startswith("it: ")
        assert words in line
    expected = to_srgb_exactly(np.dstack([grey] * 3), SRGB, 1.0)[..., 0]
    for chunks in (iccp(dim), gama(1.0)):
        assert close(read_picture(rgb_png(chunks, array=grey)), expected)


def test_stored_levels_come_with_their_profile():
    for chunks, profile in [
        ([iccp(P3)], P3),
        ([iccp(SRGB_PROFILE)], SRGB_PROFILE),
        ([], None),
        ([(b"sRGB", b"\0")], None),
        ([gama(0.45455), chrm(SRGB)], None),
        ([cicp(12, 13, 0, 1)], P3),
        ([chrm(PRIMARIES[12])], P3),
        ([gama(1.0)], make_profile(SRGB, (1.0,))),
        ([iccp(b"no profile")], None),
    ]:
        picture = load_picture(rgb_png(*chunks), colours="stored")
        assert np.array_equal(picture.array, PICTURE)
        assert picture.icc == profile
        assert not picture.converted
        back = load_picture(png_bytes(picture.array, icc=picture.icc), colours="stored")
        assert np.array_equal(back.array, PICTURE)
        assert back.icc == profile


@pytest.mark.parametrize("clear", [False, True])
def test_a_grey_picture_with_a_profile_of_rgb_is_written_as_rgb(clear):
    grey = PICTURE[..., 0]
    array = np.dstack([grey, grey]) if clear else grey
    data = png_bytes(array, icc=P3)
    assert data[25] == (6 if clear else 2)
    back = load_picture(data, alpha="keep", colours="stored")
    assert np.array_equal(back.array, array)
    assert back.icc == P3
    assert png_bytes(array, icc=make_profile(SRGB, (1.0,), grey=True))[25] == (4 if clear else 0)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "AVIF"])
def test_exif_and_xmp_come_along_upright(kind):
    exif, xmp = Image.Exif(), b'<x:xmpmeta xmlns:x="adobe:ns:meta/" tiff:Orientation="6">a</x:xmpmeta>'
    exif[0x0112], exif[0x010F] = 6, "maker"
    data = content(Image.fromarray(PICTURE), kind, exif=exif, xmp=xmp) if kind != "PNG" else None
    if kind == "PNG":
        data = png_bytes(PICTURE, exif=exif.tobytes(), xmp=xmp)
    picture = load_picture(data, metadata=True)
    assert picture.array.shape == (20, 12, 3)
    assert picture.xmp == xmp.replace(b'"6"', b'"1"')
    assert not picture.exif.startswith(b"Exif")
    for again in (load_picture(png_bytes(picture.array, None, picture.exif, picture.xmp), metadata=True),):
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


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
def test_grey_png_of_few_bits_keep_their_transparency(depth):
    top = (1 << depth) - 1
    levels = (np.arange(16) * top // 15).reshape(2, 8)
    bits = (levels[..., None] >> np.arange(depth)[::-1]) & 1
    rows = [np.packbits(row).tobytes() for row in bits.reshape(2, -1)]
    data = png(0, depth, rows, (b"tRNS", struct.pack(">H", top)))
    array = load_picture(data, alpha="keep").array
    assert np.array_equal(array[..., 0], levels * 255 // top)
    assert np.array_equal(array[..., 1], np.where(levels == top, 0, 255))
    with pytest.raises(CodecError, match="transparency"):
        read_picture(data)
    with Image.open(io.BytesIO(data)) as image:
        assert np.array_equal(to_array(image, keep_alpha=True), array)


def test_a_colour_may_be_transparent():
    data = rgb_png((b"tRNS", struct.pack(">3H", *PICTURE[3, 4])))
    array = load_picture(data, alpha="keep").array
    assert np.array_equal(array[..., :3], PICTURE)
    assert np.array_equal(array[..., 3] == 0, (PICTURE[3, 4] == PICTURE).all(-1))
    assert np.array_equal(read_picture(rgb_png((b"tRNS", b"\0"))), PICTURE)


def test_suffixes_are_those_of_still_pictures():
    assert {".png", ".jpg", ".avif", ".jp2", ".pgm", ".tiff", ".webp", ".mpo", ".jfif"} <= suffixes()
    assert not {".pdf", ".eps", ".ps", ".mpg", ".h5", ".wmf", ".txt", ".json", ""} & suffixes()


def test_other_programs_are_never_started():
    data = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 4 4\n%%EndComments\nshowpage\n"
    with Image.open(io.BytesIO(data)) as image:
        assert image.format == "EPS"
    with pytest.raises(CodecError, match="not an image"):
        read_picture(data)


def mutations(count, seed):
    """Small files of every format that is written here, with some bytes changed or the end cut off."""
    rng, image, found = np.random.default_rng(seed), Image.fromarray(PICTURE), []
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "maker"
    kinds = "PNG JPEG WEBP AVIF TIFF GIF BMP DIB PPM JPEG2000 TGA ICO DDS SGI PCX QOI XBM MSP BLP ICNS"
    for kind in kinds.split():
        for mode, options in (("RGB", {}), ("RGB", {"exif": exif, "icc_profile": P3}), ("P", {}), ("1", {})):
            with contextlib.suppress(OSError, ValueError, KeyError):
                found.append(content(image.convert(mode), kind, **options))
    found += [content(image, "TIFF", compression=c) for c in ("tiff_lzw", "tiff_adobe_deflate", "jpeg", "packbits")]
    for i in range(count):
        data = bytearray(found[i % len(found)])
        for _ in range(rng.integers(1, 6)):
            at = rng.integers(min(len(data), 150) if rng.random() < 0.7 else len(data))
            data[at] = rng.choice([0, 255, rng.integers(256), data[at] ^ (1 << rng.integers(8))])
        yield bytes(data[: rng.integers(len(data))] if rng.random() < 0.15 else data)


def test_whatever_the_bytes_are_it_is_a_picture_or_one_line(capfd):
    read = 0
    for data in mutations(700, 7):
        for colours in ("srgb", "stored"):
            rules = {"alpha": "keep", "colours": colours, "metadata": True, "max_pixels": 1 << 16}
            try:
                picture = load_picture(data, **rules, name="it")
            except CodecError as e:
                said = [str(e)]
            else:
                read += 1
                said = picture.warnings
                assert picture.array.dtype == np.uint8
            assert all(line.startswith("it: ") and line.isprintable() for line in said)
    assert read > 200
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("what", [RuntimeError("odd\nlines"), TypeError(), NotImplementedError("x"), OverflowError()])
@pytest.mark.parametrize("where", ["open", "load"])
def test_whatever_the_library_raises_is_one_line(monkeypatch, what, where):
    def fail(*_, **__):
        raise what

    data = png_bytes(PICTURE)
    monkeypatch.setattr(*((Image, "open") if where == "open" else (Image.Image, "convert")), fail)
    with pytest.raises(CodecError, match=r"^it: damaged image: ") as caught:
        load_picture(data, name="it")
    assert str(caught.value).isprintable()


def test_absurd_headers_are_refused_before_there_is_memory_for_them():
    tracemalloc.start()
    for data in (
        png(2, 8, [bytes(3)]).replace(struct.pack(">II", 1, 1), struct.pack(">II", 60000, 60000)),
        b"P6 60000 60000 255\n",
        b"P5 99999999999 1 255\n",
        b"II*\0\x08\0\0\0\xff\xff",
        b"RIFF\xff\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0\xff\x3f\0\xff\x3f\0" + bytes(80),
    ):
        with pytest.raises(CodecError):
            read_picture(data)
    assert tracemalloc.get_traced_memory()[1] < 1 << 24
    tracemalloc.stop()
    with pytest.raises(CodecError, match="1000x1000 pixels"):
        read_picture(b"P5 1000 1000 255\n", max_pixels=999)


def test_files_far_too_long_are_not_read(tmp_path):
    with (tmp_path / "a.png").open("wb") as file:
        file.write(png_bytes(PICTURE))
        file.truncate(1 << 40)
    with pytest.raises(CodecError, match="bytes; pictures have at most"):
        read_picture(tmp_path / "a.png")


@pytest.mark.parametrize(
    ("mode", "words"),
    [("CMYK", "colour space CMYK"), ("I;16", "8 bits"), ("I", "8 bits"), ("F", "8 bits")],
)
def test_kinds_that_are_refused(mode, words):
    image = Image.new(mode, (4, 4))
    with pytest.raises(CodecError, match=words):
        read_picture(content(image, "TIFF"))


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


def with_byte(data, mark, offset, change):
    """The data with one byte changed, ``offset`` after ``mark``."""
    data, at = bytearray(data), data.index(mark) + offset
    data[at] = change(data[at])
    return bytes(data)


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
        read_picture(data, keep_alpha=True)


def test_sixteen_bits_per_pixel_are_few_per_channel():
    head = struct.pack("<IiiHHIIiiII", 40, 2, 2, 1, 16, 3, 8, 0, 0, 0, 0) + struct.pack("<III", 0xF800, 0x7E0, 0x1F)
    data = b"BM" + struct.pack("<IHHI", 74, 0, 0, 66) + head + b"\xff\xff\0\0" * 2
    assert read_picture(data).shape == (2, 2)


def test_transparency():
    clear = np.dstack([PICTURE, np.full((12, 20), 100, np.uint8)])
    with pytest.raises(CodecError, match="--drop-alpha"):
        read_picture(png_bytes(clear))
    assert np.array_equal(read_picture(png_bytes(clear), drop_alpha=True), PICTURE)
    opaque = np.dstack([PICTURE, np.full((12, 20), 255, np.uint8)])
    assert np.array_equal(read_picture(png_bytes(opaque)), PICTURE)


@pytest.mark.parametrize("mode", ["1", "P", "L"])
def test_other_eight_bit_kinds(mode):
    array = read_picture(content(Image.fromarray(PICTURE).convert(mode)))
    assert array.dtype == np.uint8
    assert array.shape[:2] == (12, 20)


def test_animation_and_size_limit():
    frames = [Image.fromarray(PICTURE), Image.fromarray(PICTURE[::-1].copy())]
    with pytest.raises(CodecError, match="animation"):
        read_picture(content(frames[0], "GIF", save_all=True, append_images=frames[1:]))
    with pytest.raises(CodecError, match="2 pages"):
        read_picture(content(frames[0], "TIFF", save_all=True, append_images=frames[1:]))
    with pytest.raises(CodecError, match="--max-pixels"):
        read_picture(png_bytes(PICTURE), max_pixels=100)


def test_of_a_phone_s_pictures_the_first_is_taken():
    frames = [Image.fromarray(PICTURE), Image.fromarray(PICTURE[::2, ::2].copy())]
    data = content(frames[0], "MPO", save_all=True, append_images=frames[1:])
    assert Image.open(io.BytesIO(data)).format == "MPO"
    assert np.array_equal(read_picture(data), read_picture(content(frames[0], "JPEG")))


@pytest.mark.parametrize("limit", [200, 100])  # of Pillow, which warns beyond it and refuses beyond twice that
def test_the_limit_is_ours_alone(monkeypatch, limit):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(CodecError, match="20x12 pixels; at most 239"):
            read_picture(png_bytes(PICTURE), max_pixels=239)
        assert np.array_equal(read_picture(png_bytes(PICTURE), max_pixels=240), PICTURE)
    assert limit == Image.MAX_IMAGE_PIXELS


@pytest.mark.parametrize("data", [b"", b"hello", png_bytes(PICTURE)[:60]])
def test_what_is_no_picture(data):
    with pytest.raises(CodecError):
        read_picture(data)


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(CodecError, match="No such file"):
        read_picture(tmp_path / "none.png")
    with pytest.raises(CodecError, match="directory"):
        read_picture(tmp_path)


def test_writing_is_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "out"
    write_whole(path, b"old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(CodecError, match="No space"):
        write_whole(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_stays_and_what_it_leads_to_is_replaced(tmp_path):
    (tmp_path / "there").mkdir()
    path, target = tmp_path / "link", tmp_path / "there" / "file"
    target.write_bytes(b"old")
    path.symlink_to("there/file")
    write_whole(path, b"new")
    assert path.is_symlink()
    assert target.read_bytes() == b"new"
    target.unlink()
    write_whole(path, b"again")
    assert target.read_bytes() == b"again"
    assert list(target.parent.iterdir()) == [target]


def test_pipes_and_devices_are_written_into(tmp_path):
    path, got = tmp_path / "pipe", []
    os.mkfifo(path)
    reader = threading.Thread(target=lambda: got.append(path.read_bytes()), daemon=True)
    reader.start()
    write_whole(path, b"data")
    assert path.is_fifo()
    reader.join(10)
    assert got == [b"data"]
    (tmp_path / "null").symlink_to(os.devnull)
    write_whole(tmp_path / "null", b"data")
    assert (tmp_path / "null").is_char_device()


def test_names_may_be_as_long_as_the_system_lets_them(tmp_path):
    write_whole(tmp_path / ("n" * 255), b"data")
    assert [p.read_bytes() for p in tmp_path.iterdir()] == [b"data"]
    with pytest.raises(CodecError, match="File name too long"):
        write_whole(tmp_path / ("n" * 256), b"data")
