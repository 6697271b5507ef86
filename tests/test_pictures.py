import io
import os
import struct
import threading
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms

from codec.errors import CodecError
from codec.pictures import load_picture, png_bytes, read_picture, write_whole

from .conftest import smooth_picture

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


def test_profile_is_converted_to_srgb():
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert np.array_equal(read_picture(content(Image.fromarray(PICTURE), icc_profile=srgb)), PICTURE)
    damaged = load_picture(content(Image.fromarray(PICTURE), icc_profile=b"no profile"), name="x")
    assert np.array_equal(damaged.array, PICTURE)
    [line] = damaged.warnings
    assert line.startswith("x: its ICC profile is damaged")


@pytest.mark.parametrize(
    ("mode", "words"),
    [("CMYK", "colour space CMYK"), ("I;16", "8 bits"), ("I", "8 bits"), ("F", "8 bits")],
)
def test_kinds_that_are_refused(mode, words):
    image = Image.new(mode, (4, 4))
    with pytest.raises(CodecError, match=words):
        read_picture(content(image, "TIFF"))


def sixteen_bit_png(colour, channels):
    """A PNG of 4x4 pixels, written by hand: Pillow saves none with 16-bit colours."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 4, 4, 16, colour, 0, 0, 0)
    rows = zlib.compress(4 * (b"\0" + bytes(range(8 * channels))))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


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


@pytest.mark.parametrize(
    "data",
    [
        *(sixteen_bit_png(*kind) for kind in ((0, 1), (2, 3), (4, 2), (6, 4))),
        *(sixteen_bit_tiff(*kind) for kind in ((3, 1), (3, 8), (4, 1), (4, 8))),
        b"P6 2 2 65535\n" + bytes(24),
        b"P6 2 2 1023\n" + bytes(24),
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
