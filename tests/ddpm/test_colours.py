"""What files say of their colours: levels become those of sRGB, or keep their profile."""

import io
import struct

import numpy as np
import pytest
from PIL import Image, ImageCms

from codec.errors import CodecError
from codec.images.formats import picture_bytes
from codec.images.pictures import load_picture, read_picture
from ddpm.images.colour import PRIMARIES, SRGB, SRGB_CURVE, make_profile

from .picture_files import P3, PICTURE, SRGB_PROFILE, chrm, cicp, content, gama, iccp, rgb_png


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
        back = load_picture(picture_bytes(picture.array, "a.png", icc=picture.icc), colours="stored")
        assert np.array_equal(back.array, PICTURE)
        assert back.icc == profile


@pytest.mark.parametrize("clear", [False, True])
def test_a_grey_picture_with_a_profile_of_rgb_is_written_as_rgb(clear):
    grey = PICTURE[..., 0]
    array = np.dstack([grey, grey]) if clear else grey
    data = picture_bytes(array, "a.png", icc=P3)
    assert data[25] == (6 if clear else 2)
    back = load_picture(data, alpha="keep", colours="stored")
    assert np.array_equal(back.array, array)
    assert back.icc == P3
    assert picture_bytes(array, "a.png", icc=make_profile(SRGB, (1.0,), grey=True))[25] == (4 if clear else 0)
