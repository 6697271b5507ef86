"""Lossless files of pictures that an image format has in less: they hold that, and no model is asked."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from codec import Codec, CodecError, Target, decode, inspect
from codec.api import Storage, codec_for
from codec.errors import DamagedFile
from codec.format import stored
from tests.cli.conftest import exit_code
from tests.conftest import smooth_picture

rng = np.random.default_rng(5)
CHECKERS = (np.add.outer(np.arange(24), np.arange(32)) % 2 * 255).astype(np.uint8)
PICTURES = {
    "checkers": CHECKERS,
    "bitmap": (rng.random((40, 50)) < 0.1).astype(np.uint8) * 255,
    "noise": rng.integers(0, 256, (16, 20, 3), dtype=np.uint8),
    "palette": np.array([(250, 200, 0), (20, 40, 160), (0, 0, 0)], np.uint8)[rng.integers(0, 3, (20, 30)) // 2],
    "clear": np.dstack([np.full((12, 14, 3), (1, 2, 3), np.uint8), rng.integers(0, 2, (12, 14), dtype=np.uint8) * 255]),
    "clear grey": np.dstack([CHECKERS, 255 - CHECKERS]),
    "one colour": np.full((9, 7, 3), (3, 200, 7), np.uint8),
    "one pixel": np.array([[[9, 8, 7]]], np.uint8),
}


def webp_bytes(array):
    out = io.BytesIO()
    Image.fromarray(array).save(out, "WEBP", lossless=True, quality=100, method=6, exact=True)
    return len(out.getvalue())


@pytest.mark.parametrize("name", PICTURES)
def test_lossless_is_never_larger_than_lossless_webp(codec, name):
    picture = PICTURES[name]
    file = codec.encode(picture, Target(lossless=True))
    assert len(file.data) <= webp_bytes(picture) + 16
    assert np.array_equal(decode(file.data).array, picture)
    if name != "one pixel":
        assert file.mode == inspect(file.data).header.mode == "stored"


@pytest.mark.parametrize("name", ["checkers", "palette", "photograph"])
def test_a_quality_never_costs_more_than_the_picture_itself(codec, name):
    """But steps are taken, whatever they cost."""
    picture = PICTURES.get(name, smooth_picture(8, 8))[:8, :8]
    exact, modes = codec.encode(picture, Target(lossless=True)), set()
    gammas = codec.plan(*picture.shape[:2], picture.ndim == 2).gammas
    for quality in (0, 100):
        file = codec.encode(picture, Target(quality=quality))
        coded = codec.encode(picture, Target(quality=quality).resolved(gammas))
        assert coded.mode == "lossy"
        assert file.data == (exact.data if exact.mode == "stored" and len(exact.data) < len(coded.data) else coded.data)
        modes.add(file.mode)
    assert codec.encode(picture, Target(quality=100), store=False).data == coded.data
    assert ("stored" in modes) == (name != "photograph")


def test_photographs_are_coded():
    file = Codec("photo").encode(smooth_picture(32, 40), Target(lossless=True))
    assert file.mode == "lossless"


shapes = hnp.array_shapes(min_dims=2, max_dims=2, max_side=9)
shapes = shapes.flatmap(lambda size: st.sampled_from([size, (*size, 2), (*size, 3), (*size, 4)]))


@settings(max_examples=60, deadline=None)
@given(hnp.arrays(np.uint8, shapes, elements=st.sampled_from([0, 1, 128, 255])))
def test_what_is_packed_comes_back(array):
    """Also what looks grey but has three channels, and transparency that hides nothing, as archives may have it."""
    again = stored.unpack(stored.pack(array), stored.colour_of(array), array.shape[:2])
    assert again.dtype == np.uint8
    assert np.array_equal(again, array)


def test_the_library_has_no_limit_of_its_own(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    for array in (CHECKERS, PICTURES["noise"], PICTURES["clear"]):
        assert np.array_equal(stored.unpack(stored.pack(array), stored.colour_of(array), array.shape[:2]), array)


def test_cut_files_show_the_mean_colour_and_damaged_ones_nothing(codec):
    picture = PICTURES["palette"]
    data = codec.encode(picture, Target(lossless=True)).data
    for n in range(12, len(data)):
        shown = decode(data[:n])
        assert not shown.complete
        assert np.array_equal(shown.array, stored.of_colour(stored.colour_of(picture), picture.shape[:2]))
    for at in range(len(data)):
        for flip in (1, 128):
            damaged = bytearray(data)
            damaged[at] ^= flip
            try:
                shown = decode(bytes(damaged))
            except CodecError:
                continue
            assert not shown.complete
    assert not decode(data, rate=0.5).array.any(-1).all() or decode(data, rate=0.5).steps == 0
    with pytest.raises(CodecError, match="longer than its content"):
        decode(data + b"x")


def test_the_part_is_checked_before_it_is_decoded():
    small, large = np.zeros((3, 4, 3), np.uint8), rng.integers(0, 256, (30, 40, 3), dtype=np.uint8)
    for part, size, colour in (
        (stored.pack(large), (3, 4), b"abc"),
        (stored.pack(large), (30, 40), b"a"),
        (stored.pack(large)[:-9], (30, 40), b"abc"),
        (b"\x2f", (1, 1), b"abc"),
        (b"\x89PNG", (1, 1), b"abc"),
        (b"P6 1 1 255 abc", (1, 1), b"abc"),
    ):
        with pytest.raises(DamagedFile):
            stored.unpack(part, colour, size)
    assert np.array_equal(stored.unpack(b"", b"\0\0\0", (3, 4)), small)


def test_smaller_pictures_are_means_of_whole_pixels(codec):
    picture = PICTURES["noise"]
    data = codec.encode(picture, Target(lossless=True)).data
    small = decode(data, max_size=8).array
    assert small.shape == (6, 7, 3)
    np.testing.assert_allclose(small[0, 0], picture[:3, :3].reshape(-1, 3).mean(0), atol=0.5)
    np.testing.assert_allclose(small[-1, -1], picture[15:, 18:].reshape(-1, 3).mean(0), atol=0.5)


def test_no_model_is_loaded_and_any_codec_reads_them(codec):
    data = codec.encode(PICTURES["noise"], Target(lossless=True)).data
    assert isinstance(codec_for(data), Storage)
    assert inspect(data).model == "none"
    assert np.array_equal(Codec("cifar10-5").decode(data).array, PICTURES["noise"])
    stages = list(codec.stages(data))
    assert [s.bytes for s in stages] == [inspect(data).header_bytes, len(data)]
    assert np.array_equal(stages[-1].array, PICTURES["noise"])


def test_a_huge_claim_is_refused_at_once():
    from codec.format.container import Header, checksum
    from codec.lossy.plan import MEAN

    header = Header(b"", 65535, 65535, MEAN, 0, mode="stored", colour=b"abc").pack()
    body = bytes([0, 0])
    with pytest.raises(CodecError):
        decode(header + body + checksum(header, body, b""))


def test_the_command_says_so(codec, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(PICTURES["bitmap"]).save("a.png")

    def run(*words):
        assert exit_code(monkeypatch, *words) == 0
        return capsys.readouterr().out

    run("encode", "a.png", "-o", "a.ddpm", "--lossless")
    assert "stored" in run("info", "a.ddpm")
    run("decode", "a.ddpm", "-o", "b.png")
    assert np.array_equal(np.asarray(Image.open("b.png")), PICTURES["bitmap"])
