"""Lossless pixels by a mixture that learns: both ways, against closed forms, and to the last bit without a compiler."""

import os
import subprocess
import sys
import zlib
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter, zoom
from scipy.stats import norm

from bench.harness.photograph import PICTURE
from codec import Codec, CodecError, Target, decode
from codec.errors import DamagedFile
from codec.images.pictures import read_picture
from codec.lossless import adaptive
from codec.terms import CodeTerms
from ddpm.diffusion.bound import bound


@dataclass
class Size:
    """As much of a setting as matters where the belief is given."""

    size: tuple[int, int]
    grey: bool


def believing(monkeypatch, belief, seen, std):
    found = tuple(v.astype(np.float32) for v in (belief, seen, std))
    monkeypatch.setattr(adaptive, "belief_of", lambda *_: found)


def guesses(planes: np.ndarray, rng) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A belief that is about right."""
    belief = planes + rng.normal(0, 5, planes.shape)
    return belief, planes + rng.normal(0, 9, planes.shape), np.full(planes.shape, 5.0)


@given(st.integers(0, 2**31), st.integers(1, 23), st.integers(1, 37), st.booleans(), st.integers(0, 3))
@settings(max_examples=40, deadline=None)
def test_what_goes_in_comes_out(seed, height, width, grey, kind):
    rng, patch = np.random.default_rng(seed), pytest.MonkeyPatch()
    shape = (height, width) if grey else (height, width, 3)
    x = [
        rng.integers(0, 256, shape),
        np.full(shape, rng.integers(0, 256)),
        rng.integers(0, 2, shape) * 255,
        np.clip(rng.normal(128, 3, shape), 0, 255),
    ][kind].astype(np.uint8)
    with patch.context() as p:
        believing(p, *guesses(adaptive.planes_of(x).astype(float), rng))
        here = Size((height, width), grey)
        data = adaptive.encode(here, 0, None, x)
        assert np.array_equal(adaptive.decode(here, 0, None, data), x)
        p.setattr(adaptive, "CHUNK", 2 * width)  # a few rows at a time
        assert adaptive.encode(here, 0, None, x) == data


@pytest.mark.parametrize("spread", [0.7, 2.0, 6.0])
def test_normal_errors_take_their_entropy(monkeypatch, spread):
    """Pixels that are the belief and independent noise take -sum p log2 p of a rounded normal variable."""
    rng = np.random.default_rng(0)
    belief = rng.integers(60, 190, (3, 96, 96)).astype(float)
    planes = np.rint(belief + rng.normal(0, spread, belief.shape)).astype(np.uint8)
    believing(monkeypatch, belief, belief + rng.normal(0, 10, belief.shape), np.full(belief.shape, spread))
    data = adaptive.encode(Size((96, 96), False), 0, None, adaptive.picture_of(planes))
    p = np.diff(norm.cdf(np.arange(-60, 61) - 0.5, scale=spread))
    entropy = -(p[p > 0] * np.log2(p[p > 0])).sum()
    assert 0.995 * entropy < 8 * len(data) / planes.size < 1.06 * entropy


def test_what_is_beside_helps(monkeypatch):
    """Errors that neighbours and colours share cost less than independent ones of the same size."""
    rng, sizes = np.random.default_rng(1), []
    for shared in (False, True):
        belief = np.full((3, 64, 64), 128.0)
        error = rng.normal(0, 8, belief.shape)
        if shared:
            error = np.cumsum(rng.normal(0, 1.2, (64, 64)), 1)[None] + rng.normal(0, 1, belief.shape)
            error *= 8 / error.std()
        planes = np.clip(np.rint(belief + error), 0, 255).astype(np.uint8)
        believing(monkeypatch, belief, planes + rng.normal(0, 30, belief.shape), np.full(belief.shape, 8.0))
        sizes.append(len(adaptive.encode(Size((64, 64), False), 0, None, adaptive.picture_of(planes))))
    assert sizes[1] < 0.75 * sizes[0]


def of_luma_and_chroma(rng, even: bool) -> np.ndarray:
    """(3, 128, 128) green, red, blue, made of luma that is noise and chroma that is smooth, both rounded, or with as
    much noise as rounding is."""
    luma = rng.normal(128, 9, (128, 128))
    first, second = (zoom(rng.normal(0, 2, (12, 12)), 128 / 12, order=3) for _ in range(2))
    luma, first, second = (np.rint(v) if even else v + rng.uniform(-0.5, 0.5, v.shape) for v in (luma, first, second))
    red, blue = luma + 1.8 * first, luma + 2.2 * second
    green = luma - 0.9 * first - 0.4 * second
    return np.clip(np.rint([green, red, blue]), 0, 255).astype(np.uint8)


def test_rounded_chroma_is_found_out(monkeypatch):
    """Where luma and chroma are whole numbers, of all colours few are possible; to predictions that is noise."""
    sizes = []
    for even in (True, False):
        planes = of_luma_and_chroma(np.random.default_rng(4), even)
        smooth = gaussian_filter(planes.astype(float), (0, 2, 2))
        believing(monkeypatch, smooth, smooth, np.full(planes.shape, 9.0))
        sizes.append(len(adaptive.encode(Size((128, 128), False), 0, None, adaptive.picture_of(planes))))
    assert sizes[0] < 0.93 * sizes[1]


SAME = """
import sys, numpy as np
from codec.lossless import adaptive
rng = np.random.default_rng(3)
x = np.clip(rng.normal(90, 20, (11, 18, 3)).cumsum(1) / 6, 0, 255).astype(np.uint8)
planes = adaptive.planes_of(x).astype(float)
belief = planes + rng.normal(0, 4, planes.shape), planes + rng.normal(0, 9, planes.shape), np.full(planes.shape, 4.0)
adaptive.belief_of = lambda *_: tuple(v.astype(np.float32) for v in belief)
class Size: size, grey = (11, 18), False
sys.stdout.write(adaptive.encode(Size, 0, None, x).hex())
"""


def test_the_compiler_changes_nothing():
    """Fused multiplications and reordered sums would: Python has neither."""
    plain, compiled = (
        subprocess.run(
            [sys.executable, "-c", SAME], env=os.environ | {"NUMBA_DISABLE_JIT": flag}, capture_output=True, check=True
        ).stdout
        for flag in ("1", "0")
    )
    assert len(plain) > 400
    assert plain == compiled


@pytest.mark.parametrize("size", [0, 3, 4, 50, 4000])
def test_other_bytes_are_damage(monkeypatch, size):
    rng = np.random.default_rng(size)
    planes = rng.integers(0, 256, (3, 20, 30)).astype(float)
    believing(monkeypatch, planes, planes, np.full(planes.shape, 3.0))
    with pytest.raises(DamagedFile):
        adaptive.decode(Size((20, 30), False), 0, None, rng.bytes(size))


@pytest.fixture(scope="module")
def photograph() -> np.ndarray:
    return read_picture(PICTURE)[100:196, 200:310]


@pytest.mark.parametrize("grey", [False, True])
def test_files_of_photographs(photograph, grey):
    x = photograph[..., 1].copy() if grey else photograph
    codec = Codec("photo")
    file = codec.encode(x, Target(lossless=True))
    whole = codec.plan(*x.shape[:2], grey).steps
    steps = adaptive.handover(codec.setting(x.shape[:2], grey))
    assert 0 < steps < whole
    found = decode(file.data)
    assert np.array_equal(found.array, x)
    assert (found.steps, found.complete) == (steps, True)
    cut = decode(file.data[: 2 * len(file.data) // 3])
    assert (cut.steps, cut.complete) == (steps, False)
    assert 10 * np.log10(255**2 / np.mean((cut.array.astype(float) - x) ** 2)) > 32
    unsigned = decode(file.data[:-1])  # all pixels, but not the whole of the checksum
    assert np.array_equal(unsigned.array, x)
    assert not unsigned.complete
    height, found = len(x), []
    for share in (0.2, 0.4, 0.7, 0.9):
        cut = decode(file.data[: int(share * len(file.data))])
        assert (cut.steps, cut.complete) == (steps, False)
        error = (cut.array.astype(float) - x) ** 2
        rows = int(error.reshape(height, -1).any(1).argmax())
        found.append((rows, 10 * np.log10(255**2 / np.mean(error))))
        assert 10 * np.log10(255**2 / np.mean(error[rows:])) > 26  # below them what the chain shows
    assert sorted(set(found)) == found
    assert found[0][1] > 28
    assert found[-1][0] > height // 2
    pictures = torch.from_numpy(np.stack([x] * 3 if grey else x.transpose(2, 0, 1))[None].copy())
    ideal = bound(CodeTerms(codec.setting(x.shape[:2], grey)), [pictures], quiet=True)
    assert len(ideal.terms) == steps
    assert 0.01 * ideal.distortion < ideal.rate < 0.1 * ideal.distortion
    assert 0.99 < 8 * len(file.data) / x.size / ideal.total < 1.04  # with a header and what the trellis loses
    broken = bytearray(file.data)
    broken[-100] ^= 8
    with pytest.raises(CodecError):
        decode(bytes(broken))


def test_of_nothing_known_there_are_no_pixels(photograph):
    codec = Codec("photo")
    setting = codec.setting(photograph.shape[:2], False)
    with pytest.raises(DamagedFile):
        adaptive.decode(setting, 0, torch.zeros(3, *setting.size), bytes(100))


@pytest.mark.parametrize("k", [1, 3, 12])
def test_any_place_of_the_chain_will_do(photograph, k):
    """A file says itself where its chain ends, also where the network still sees the picture smaller."""
    x = np.ascontiguousarray(photograph[:48, :64])
    setting = Codec("photo").setting(x.shape[:2], False)
    z = torch.randn(3, *setting.size, generator=torch.Generator().manual_seed(0))
    data = adaptive.encode(setting, k, z, x)
    assert np.array_equal(adaptive.decode(setting, k, z, data), x)
    wild = adaptive.encode(setting, k, 1e6 * z, x)
    assert np.array_equal(adaptive.decode(setting, k, 1e6 * z, wild), x)


def test_small_pictures_go_all_the_way(photograph):
    codec = Codec("photo")
    assert adaptive.handover(codec.setting((64, 64))) is None
    file = codec.encode(photograph[:40, :50], Target(lossless=True))
    found = decode(file.data)
    assert found.steps == codec.plan(40, 50, False).steps
    assert np.array_equal(found.array, photograph[:40, :50])


def test_the_checksum_is_of_the_pixels(monkeypatch):
    x = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    believing(monkeypatch, *guesses(adaptive.planes_of(x).astype(float), np.random.default_rng(0)))
    data = adaptive.encode(Size((4, 4), False), 0, None, x)
    assert int.from_bytes(data[:4], "big") == zlib.crc32(x.tobytes())
