"""What is read as a picture, and what is refused, in a line, whatever the bytes are."""

import contextlib
import io
import struct
import tracemalloc
import warnings

import numpy as np
import pytest
from PIL import Image

from codec.errors import CodecError
from codec.images.pictures import load_picture, png_bytes, read_picture
from ddpm.images.pictures import suffixes

from .picture_files import P3, PICTURE, content, png, rgb_png


def test_png_round_trip():
    assert np.array_equal(read_picture(png_bytes(PICTURE)), PICTURE)
    assert np.array_equal(read_picture(png_bytes(PICTURE[..., 0])), PICTURE[..., 0])


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
        assert np.array_equal(load_picture(image, alpha="keep").array, array)


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


def test_transparency():
    clear = np.dstack([PICTURE, np.full((12, 20), 100, np.uint8)])
    with pytest.raises(CodecError, match="--drop-alpha"):
        read_picture(png_bytes(clear))
    assert np.array_equal(read_picture(png_bytes(clear), alpha="drop"), PICTURE)
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
