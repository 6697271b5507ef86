"""Rounding, range coding, and whole lossless files."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.stats import norm

from codec import CodecError, Target, decode, inspect
from codec.errors import DamagedFile
from codec.images import alpha
from codec.lossless import entropy
from codec.lossless import pixels as lossless
from tests.conftest import smooth_picture


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 400), st.integers(0, 2**32 - 1), st.floats(-5, 4), st.floats(0, 1))
def test_pixels_survive_range_coding(n, seed, octave, wild):
    rng = np.random.default_rng(seed)
    means = rng.integers(0, 255 * 16 + 1, n)
    scales = np.clip(np.rint(8 * (octave + rng.uniform(-1, 1, n))), entropy.LOWEST, entropy.HIGHEST).astype(int)
    near = np.clip(np.rint(means / 16 + 2.0 ** (scales / 8) * rng.standard_normal(n)), 0, 255)
    x = np.where(rng.random(n) < wild, rng.integers(0, 256, n), near).astype(np.uint8)
    writer = entropy.Writer()
    writer.pixels(x, means, scales)
    reader = entropy.Reader(writer.bytes())
    assert np.array_equal(reader.pixels(means, scales), x)


def test_the_length_is_that_of_the_discretized_gaussian():
    rng = np.random.default_rng(1)
    mean, std = rng.uniform(-1, 256, 60_000).clip(0, 255), 2 ** rng.uniform(-2, 1, 60_000)
    x = np.clip(np.rint(mean + std * rng.standard_normal(60_000)), 0, 255)
    upper = np.where(x == 255, np.inf, x + 0.5)
    lower = np.where(x == 0, -np.inf, x - 0.5)
    ideal = -np.log2(norm.cdf(upper, mean, std) - norm.cdf(lower, mean, std)).mean()
    writer = entropy.Writer()
    writer.pixels(x.astype(int), np.rint(16 * mean).astype(int), np.rint(8 * np.log2(std)).astype(int))
    assert 8 * len(writer.bytes()) / 60_000 == pytest.approx(ideal, rel=0.006)


def test_the_probabilities_are_far_from_rounding_either_way():
    """So the counts are the same wherever the normal cdf is good to 12 digits."""
    for scale in (entropy.LOWEST, 0, entropy.HIGHEST):
        r = entropy.reaches()[scale - entropy.LOWEST]
        edges = np.arange(-r, r + 2) - 0.5
        for fraction in (0, 5, 15):
            mass = np.diff(norm.cdf((edges - fraction / 16) / 2 ** (scale / 8))) * entropy.TOTAL
            counts = entropy.tables()[fraction, scale]
            assert np.abs(counts - 1 - mass).max() < 0.5 - 1e-6


def test_large_pictures_are_the_same_by_parts(codec, monkeypatch):
    """A picture that is rounded and coded a few blocks at a time has the same file, and decodes so."""
    pictures = [smooth_picture(24, 32), np.full((24, 32), 77, np.uint8)]
    files = [codec.encode([p], Target(lossless=True), store=False)[0].data for p in pictures]
    for module in (entropy, lossless):
        monkeypatch.setattr(module, "CHUNK", 2)
    for picture, data in zip(pictures, files):
        assert codec.encode([picture], Target(lossless=True), store=False)[0].data == data
        assert np.array_equal(codec.decode([data])[0].array, picture)


SHAPES = [(16, 16, 3), (16, 16), (1, 1, 3), (1, 9), (17, 5, 3), (40, 24, 3)]


@pytest.mark.parametrize("shape", SHAPES)
def test_the_very_pixels_come_back(codec, shape):
    picture = smooth_picture(*shape[:2])
    picture = picture if len(shape) == 3 else picture[..., 0]
    [file] = codec.encode([picture], Target(lossless=True), store=False)
    shown = decode(file.data)
    assert shown.complete
    assert np.array_equal(shown.array, picture)
    assert inspect(file.data).header.mode == "lossless"
    assert file.psnr == np.inf


@pytest.mark.parametrize("kind", ["black", "white", "noise", "edge"])
def test_strange_pictures_too(codec, kind):
    picture = {
        "black": np.zeros((16, 16, 3), np.uint8),
        "white": np.full((16, 16, 3), 255, np.uint8),
        "noise": np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8),
        "edge": np.repeat(np.uint8([0, 255]), 8 * 16 * 3).reshape(16, 16, 3),
    }[kind]
    [file] = codec.encode([picture], Target(lossless=True), store=False)
    shown = codec.decode([file.data])[0].array
    assert np.array_equal(np.broadcast_to(shown[..., None] if shown.ndim == 2 else shown, picture.shape), picture)


def clear_picture(height, width, colours=3, seed=0):
    """A smooth picture behind a disc of growing opacity."""
    rows, columns = np.mgrid[:height, :width]
    alpha = np.clip(9 * (np.hypot(rows - height / 2, columns - width / 2) - 3) * (1 + seed), 0, 255).astype(np.uint8)
    return np.dstack([smooth_picture(height, width, seed, colours), alpha])


@pytest.mark.parametrize("colours", [1, 3])
def test_transparency_is_kept(codec, colours):
    pictures = [clear_picture(16, 20, colours, s) for s in range(2)]
    pictures.append(smooth_picture(16, 20, 9, colours))
    files = codec.encode(pictures, Target(lossless=True), store=False)
    for picture, file, shown in zip(pictures, files, codec.decode([f.data for f in files])):
        assert np.array_equal(shown.array, picture)
        assert np.array_equal(decode(file.data).array, picture)
    assert [inspect(f.data).header.mode for f in files] == ["lossless, with alpha"] * 2 + ["lossless"]
    with pytest.raises(CodecError, match="transparency"):
        codec.encode(pictures[:1], Target(steps=3))


def test_a_prefix_has_the_transparency_or_not(codec):
    picture = clear_picture(16, 16)
    [file] = codec.encode([picture], Target(lossless=True), store=False)
    begin, end = codec.open(file.data).parts["alpha"]
    assert [inspect(file.data[:cut]).whole_bytes for cut in (begin - 3, end, -1)] == [None, None, len(file.data)]
    for cut in (begin - 3, begin, end - 1):
        assert decode(file.data[:cut]).array.shape == (16, 16, 3)
    for cut in (end, end + 1, len(file.data) - 1):
        assert np.array_equal(decode(file.data[:cut]).array[..., 3], picture[..., 3])
    dims = codec.plan(16, 16, False).dims
    assert codec.decode([file.data], rate=(8 * begin + 1) / dims)[0].array.shape == (16, 16, 3)
    assert codec.decode([file.data], rate=(8 * end + 1) / dims)[0].array.shape == (16, 16, 4)
    for i in (begin - 2, begin - 1, begin + 9, end - 1, end + 2):
        data = bytearray(file.data)
        data[i] ^= 64
        with pytest.raises(CodecError):
            decode(bytes(data))
    data = bytearray(file.data[:-1])  # cut, and the transparency is no picture
    data[begin + 2] ^= 64
    with pytest.raises(DamagedFile):
        decode(bytes(data))


@settings(max_examples=30, deadline=None)
@given(hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=20)))
def test_alpha_packs(plane):
    assert np.array_equal(alpha.unpack(alpha.pack(plane), plane.shape), plane)
    with pytest.raises(DamagedFile):
        alpha.unpack(alpha.pack(plane), (plane.shape[0] + 1, plane.shape[1]))


@settings(max_examples=12, deadline=None)
@given(
    hnp.arrays(
        np.uint8,
        st.tuples(st.integers(1, 20), st.integers(1, 20)).flatmap(
            lambda size: st.sampled_from([size, (*size, 2), (*size, 3), (*size, 4)])
        ),
    )
)
def test_any_picture_comes_back(codec, picture):
    [file] = codec.encode([picture], Target(lossless=True), store=False)
    assert np.array_equal(canonical(decode(file.data).array), canonical(picture))


def canonical(array):
    """(H, W, 4), whatever the kind."""
    colour, clear = alpha.split(array)
    colour = np.dstack([colour] * 3) if colour.ndim == 2 else colour
    return np.dstack([colour, np.full(colour.shape[:2], 255, np.uint8) if clear is None else clear])


def test_files_of_a_batch_decode_one_by_one(codec):
    pictures = [smooth_picture(16, 16, s) for s in range(4)]
    files = codec.encode(pictures, Target(lossless=True), store=False)
    for picture, file in zip(pictures, files):
        assert np.array_equal(codec.decode([file.data])[0].array, picture)
    for picture, shown in zip(pictures, codec.decode([f.data for f in files])):
        assert np.array_equal(shown.array, picture)


def test_every_prefix_is_a_coarser_picture_and_never_garbage(codec):
    picture = smooth_picture(16, 16)
    [file] = codec.encode([picture], Target(lossless=True), store=False)
    opened = codec.open(file.data)
    before = opened.info.side_bytes + len(opened.messages)
    best = decode(file.data[:before]).array
    for cut in range(8, len(file.data), 31):
        shown = decode(file.data[:cut])
        assert not shown.complete
        if cut >= before:
            assert np.array_equal(shown.array, best)
    assert np.mean((best.astype(float) - picture) ** 2) < 20
    by_rate = codec.decode([file.data], rate=1.0)[0]
    assert by_rate.steps < opened.info.header.steps


def test_every_flipped_byte_is_refused(codec):
    [file] = codec.encode([smooth_picture(8, 8)], Target(lossless=True), store=False)
    for i in range(len(file.data)):
        for flip in (1, 128, 255):
            data = bytearray(file.data)
            data[i] ^= flip
            with pytest.raises(CodecError):
                decode(bytes(data))


def test_another_z_is_found_out(codec):
    """By the checksum of the pixels, or before."""
    picture, setting = smooth_picture(16, 16), codec.setting((16, 16))
    z = torch.randn(3, 16, 16, generator=torch.Generator().manual_seed(20))
    data = lossless.encode(setting, z, picture)
    assert np.array_equal(lossless.decode(setting, z, data), picture)
    with pytest.raises(DamagedFile):
        lossless.decode(setting, z, data[:-2])
    for seed in range(20):
        other = z + 0.003 * torch.randn(3, 16, 16, generator=torch.Generator().manual_seed(seed))
        with pytest.raises(DamagedFile, match="as they went in"):
            lossless.decode(setting, other, data)
