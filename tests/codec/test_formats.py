"""Decoded pictures in the common formats."""

import io

import numpy as np
import pytest
from PIL import Image, ImageCms

from codec.errors import CodecError
from codec.images.formats import FORMATS, format_of, picture_bytes

SHAPES = {"RGB": (9, 7, 3), "L": (9, 7), "RGBA": (9, 7, 4), "LA": (9, 7, 2)}
REFUSED = {(m, s) for m in ("RGBA", "LA") for s in (".jpg", ".jpeg", ".ppm", ".pgm", ".bmp")} | {("RGB", ".pgm")}


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("mode", SHAPES)
def test_what_is_written_is_what_is_read(mode, suffix):
    array = np.random.default_rng(0).integers(0, 256, SHAPES[mode], dtype=np.uint8)
    if (mode, suffix) in REFUSED:
        with pytest.raises(CodecError, match=rf"x\{suffix}: the picture has \w+, which \{suffix} cannot hold"):
            picture_bytes(array, f"x{suffix}")
        return
    image = Image.open(io.BytesIO(picture_bytes(array, f"x{suffix.upper()}")))
    assert image.format == format_of(f"x{suffix}").name
    read = np.asarray(image.convert(mode)).astype(int)
    assert np.abs(read - array).max() == 0 or not format_of(f"x{suffix}").lossless
    if suffix == ".ppm":
        assert image.mode == "RGB"


def test_jpeg_keeps_colours_as_fine_as_lightness():
    array = np.zeros((16, 16, 3), np.uint8)
    array[:, ::2] = 255, 0, 0
    array[:, 1::2] = 0, 0, 255
    read = np.asarray(Image.open(io.BytesIO(picture_bytes(array, "x.jpg")))).astype(int)
    assert np.abs(read - array).max() < 16


def test_a_name_without_a_suffix_is_png_and_others_are_refused():
    assert format_of("a/b") is format_of("-") is format_of("x.png")
    for name in ("x.gif", "x.ddpm", "x.avif"):
        with pytest.raises(CodecError, match="a picture is written as"):
            format_of(name)


def test_a_picture_that_is_too_wide_is_one_line():
    with pytest.raises(CodecError, match=r"x\.webp: WEBP does not take 16384x1 pixels") as caught:
        picture_bytes(np.zeros((1, 16384), np.uint8), "x.webp")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif"])
def test_a_colour_profile_goes_along(suffix):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    made = picture_bytes(np.zeros((4, 4, 3), np.uint8), f"x{suffix}", icc=profile, exif=None)
    assert Image.open(io.BytesIO(made)).info["icc_profile"] == profile
