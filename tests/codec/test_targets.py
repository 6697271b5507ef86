"""Every target does what it says: sizes, qualities, whatever the picture and the company it is in."""

import math

import numpy as np
import pytest

from codec import Codec, CodecError, Target, decode, inspect
from tests.conftest import smooth_picture

H, W = 16, 16
ROWS, COLUMNS = np.mgrid[:H, :W]


def of_colour(*colour):
    return np.broadcast_to(np.array(colour, np.uint8), (H, W, 3)).copy()


ICON = np.where((((ROWS - 8) ** 2 + (COLUMNS - 8) ** 2) < 20)[..., None], [250, 200, 0], [20, 40, 160])
SIMPLE = {
    "white": of_colour(255, 255, 255),
    "black": of_colour(0, 0, 0),
    "mid-grey": of_colour(128, 128, 128),
    "red": of_colour(255, 0, 0),
    "gradient": np.repeat((COLUMNS * 255 // (W - 1))[..., None], 3, 2).astype(np.uint8),
    "icon": ICON.astype(np.uint8),
}


@pytest.fixture(scope="module")
def photo():
    return Codec("photo")


@pytest.fixture(scope="module")
def cifar10():
    return Codec("cifar10")


def shown_psnr(data, picture):
    array = decode(data).array
    array = array if array.ndim == 3 else np.repeat(array[..., None], 3, 2)
    mse = np.mean((array.astype(float) - picture) ** 2)
    return math.inf if mse == 0 else 10 * math.log10(255**2 / mse)


@pytest.mark.parametrize("name", SIMPLE)
def test_more_bytes_never_show_a_worse_picture(photo, name):
    best = 0.0
    for n_bytes in (14, 18, 23, 38, 80):
        file = photo.encode(SIMPLE[name], Target(bytes=n_bytes))
        assert len(file.data) <= n_bytes
        found = shown_psnr(file.data, SIMPLE[name])
        assert found == pytest.approx(file.psnr, abs=0.01)
        assert found >= best - 0.5
        best = max(best, found)
    assert best > 20


def test_of_one_colour_the_colour_is_the_file(photo):
    for name in ("white", "black", "mid-grey", "red"):
        for target in (Target(bytes=200), Target(psnr=30), Target(lossless=True)):
            file = photo.encode(SIMPLE[name], target)
            assert len(file.data) <= 13
            assert file.mode == inspect(file.data).header.mode == "stored"
            assert shown_psnr(file.data, SIMPLE[name]) == math.inf


@pytest.mark.parametrize(("which", "decibels"), [("codec", 38), ("codec", 49)])
def test_the_smallest_file_that_reaches_a_psnr(request, which, decibels):
    """Also one that takes more bits than all steps need: there is a rate that reaches it."""
    codec, picture = request.getfixturevalue(which), smooth_picture(12, 12)
    file = codec.encode(picture, Target(psnr=decibels))
    assert file.mode.startswith("lossy")
    assert shown_psnr(file.data, picture) >= decibels - 1e-3
    for share in (0.97, 0.92):
        assert codec.encode(picture, Target(bytes=int(share * len(file.data)))).psnr < decibels
    assert (decibels == 49) == (codec.encode(picture, Target(quality=100)).psnr < decibels)


def test_a_psnr_that_only_the_pixels_reach_is_lossless(codec):
    picture = np.random.default_rng(0).integers(0, 256, (12, 12, 3), dtype=np.uint8)
    for decibels in (90, 1e6):
        file = codec.encode(picture, Target(psnr=decibels))
        assert file.psnr == math.inf
        assert np.array_equal(decode(file.data).array, picture)
    assert Target(psnr=math.inf) == Target(lossless=True)


def test_bytes_beyond_need_become_lossless(codec):
    """A size in which the pixels themselves have room gives them, and no more bytes than they take."""
    picture = smooth_picture(16, 16)
    exact = codec.encode(picture, Target(lossless=True))
    file = codec.encode(picture, Target(bytes=17_474))
    assert file.data == exact.data
    assert file.mode == exact.mode
    closer = codec.encode(picture, Target(bytes=len(exact.data) - 1))
    assert closer.mode.startswith("lossy")
    assert len(closer.data) < len(exact.data)


@pytest.mark.parametrize(
    ("which", "target"),
    [
        ("cifar10", {"steps": 9}),
        ("codec", {"bits_per_dim": 0.7}),
        ("codec", {"lossless": True}),
        ("codec", {"psnr": 24}),
    ],
)
def test_the_same_picture_gives_the_same_file_in_any_company(request, which, target):
    codec, how = request.getfixturevalue(which), {"target": Target(**target), "store": False}
    side = 6 if "psnr" in target else 16  # of which many lengths are tried
    pictures = [smooth_picture(side, side, seed=i) for i in range(2)]
    first, second, third = (f.data for f in codec.encode([*pictures, pictures[0]], **how))
    assert first == third == codec.encode(pictures[0], **how).data
    assert second == codec.encode(pictures[1], **how).data


def test_mistakes_say_what_is_wanted(codec):
    for given in (
        np.zeros((8, 8, 3)), np.zeros((0, 8, 3), np.uint8), np.zeros((8, 8, 5), np.uint8), [], b"abc", 7, None, [None],
        np.zeros((8, 8, 4), np.uint8), "no/such/file.png",
    ):  # fmt: skip
        with pytest.raises(CodecError):
            codec.encode(given, Target(bits_per_dim=1.0))
    picture = smooth_picture(16, 16)
    for target in (None, 0.1, "0.1"):
        with pytest.raises(CodecError, match="a target is a Target"):
            codec.encode(picture, target)
    with pytest.raises(CodecError, match="channel"):
        codec.encode(picture, Target(bits_per_dim=1.0), channel="perfect")
    for wrong in ({"bits_per_dim": "much"}, {"psnr": math.nan}, {}, {"bytes": 9, "psnr": 3}, {"quality": 101}):
        with pytest.raises(CodecError):
            Target(**wrong)
    for data in (7, None, "no/such/file.ddpm"):
        with pytest.raises(CodecError):
            decode(data)
    with pytest.raises(CodecError, match="reconstruction"):
        decode(codec.encode(picture, Target(bits_per_dim=1.0)).data, recon="best")


def test_one_picture_or_many_arrays_images_or_paths(codec, tmp_path):
    from PIL import Image

    picture = smooth_picture(16, 16)
    Image.fromarray(picture).save(tmp_path / "a.png")
    one = codec.encode(picture, Target(bits_per_dim=1.0))
    for given in (Image.fromarray(picture), tmp_path / "a.png", str(tmp_path / "a.png")):
        assert codec.encode(given, Target(bits_per_dim=1.0)).data == one.data
    several = codec.encode(iter([picture, picture[:9]]), Target(bits_per_dim=1.0))
    assert [len(f.data) > 0 for f in several] == [True, True]
    (tmp_path / "a.ddpm").write_bytes(one.data)
    assert np.array_equal(decode(tmp_path / "a.ddpm").array, decode(one.data).array)
    assert np.array_equal(codec.decode(one.data).array, codec.decode([one.data])[0].array)
    assert inspect(tmp_path / "a.ddpm") == inspect(one.data)
