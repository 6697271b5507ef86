import io

import numpy as np
import pytest
from PIL import Image, ImageCms

from codec.errors import CodecError
from codec.pictures import png_bytes, read_picture, write_whole

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
    lab_free = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    same = read_picture(content(Image.fromarray(PICTURE), icc_profile=lab_free))
    assert np.abs(same.astype(int) - PICTURE).max() <= 1
    with pytest.raises(CodecError, match="ICC"):
        read_picture(content(Image.fromarray(PICTURE), icc_profile=b"no profile"))


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
    with pytest.raises(CodecError, match="--max-pixels"):
        read_picture(png_bytes(PICTURE), max_pixels=100)


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
