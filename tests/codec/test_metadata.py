"""Lossless files keep the colours that are stored, and their profile; EXIF and XMP come along if asked."""

import numpy as np
import pytest
from PIL import Image, ImageCms

from codec import CodecError, Target, decode, inspect
from codec.images.pictures import Picture
from tests.conftest import smooth_picture

ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
EXIF, XMP = b"II*\0\x08\0\0\0\0\0\0\0\0\0", b"<x:xmpmeta/>"


@pytest.mark.parametrize("store", [True, False])
@pytest.mark.parametrize("shape", [(9, 11, 3), (9, 11, 4), (9, 11)])
def test_all_of_it_comes_back(codec, store, shape):
    array = np.ascontiguousarray(np.dstack([smooth_picture(9, 11), np.arange(99).reshape(9, 11)]).astype(np.uint8))
    array = np.ascontiguousarray(array[..., 0] if len(shape) == 2 else array[..., : shape[2]])
    picture = Picture(array, ICC, EXIF, XMP)
    file = codec.encode(picture, Target(lossless=True), store=store)
    shown = decode(file.data)
    assert shown.complete
    assert np.array_equal(shown.array, array)
    assert (shown.icc, shown.exif, shown.xmp) == (ICC, EXIF, XMP)
    assert inspect(file.data).header.extras == ("icc", "exif", "xmp")
    assert shown.image.info["icc_profile"] == ICC


def test_a_size_counts_all_of_it(codec):
    picture = Picture(smooth_picture(16, 16), None, EXIF, XMP)
    file = codec.encode(picture, Target(bytes=150))
    assert len(file.data) <= 150
    assert file.mode.startswith("lossy")
    assert decode(file.data).exif == EXIF
    plain = codec.encode(picture.array, Target(bytes=150))
    assert inspect(plain.data).header.extras == ()
    assert plain.psnr > file.psnr


def test_a_cut_file_has_its_profile_from_the_beginning_on(codec):
    file = codec.encode(Picture(smooth_picture(24, 24), ICC, EXIF, XMP), Target(lossless=True), store=False)
    side = inspect(file.data).side_bytes
    for n in (side, side + 9, len(file.data) - 1):
        assert decode(file.data[:n]).icc == ICC
    assert decode(file.data[: side + 9]).exif is None
    for n in (13, 60, 120):
        assert decode(file.data[:n]).icc is None


def test_every_flipped_byte_is_refused(codec):
    file = codec.encode(Picture(smooth_picture(8, 8), ICC, EXIF, XMP), Target(steps=2))
    for at in range(len(file.data)):
        damaged = bytearray(file.data)
        damaged[at] ^= 16
        try:
            shown = decode(bytes(damaged))
        except CodecError:
            continue
        assert not shown.complete


def test_the_profile_of_a_file_is_kept_and_its_levels_too(codec, tmp_path):
    wide = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    array = smooth_picture(12, 12)
    profile = wide.tobytes()
    Image.fromarray(array).save(tmp_path / "a.png", icc_profile=profile)
    shown = decode(codec.encode(tmp_path / "a.png", Target(lossless=True)).data)
    assert np.array_equal(shown.array, array)
    assert shown.icc in (None, profile)
