"""Pictures within so many levels: multiples of a step, and files that keep the promise."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from bench.harness.photograph import PICTURE
from codec import Codec, CodecError, Target, decode
from codec.images.pictures import read_picture
from codec.lossless import near
from codec.target import MAX_ERROR


@given(arrays(np.uint8, (4, 5)), st.integers(0, MAX_ERROR))
def test_no_value_moves_further(x, error):
    y = near.within(x, error)
    assert np.abs(y.astype(int) - x).max() <= error
    step = near.step_of(y)
    assert step % (2 * error + 1) == 0 or step == 255
    assert near.step_of(x) == step or error


@given(arrays(np.uint8, (4, 5)), st.integers(1, 255))
@settings(max_examples=200)
def test_steps_come_back(x, step):
    x = x // step * step
    x[0, :2] = 255, 0
    found = near.step_of(x)
    assert found >= step
    assert np.array_equal(near.from_steps(near.in_steps(x, found), found), x)
    assert near.in_steps(x, found).max() <= -(-255 // found)


@pytest.fixture(scope="module")
def photograph() -> np.ndarray:
    return read_picture(PICTURE)[100:196, 200:300]


@pytest.mark.parametrize("kind", ["colour", "grey", "small", "alpha"])
def test_files_keep_the_promise(photograph, kind):
    rng = np.random.default_rng(0)
    alpha = rng.integers(0, 256, (*photograph.shape[:2], 1), np.uint8)
    x = {
        "colour": photograph,
        "grey": photograph[..., 1].copy(),
        "small": photograph[:20, :30].copy(),
        "alpha": np.concatenate([photograph, alpha], 2)[:40, :40].copy(),
    }[kind]
    codec, sizes = Codec("photo"), []
    for error in (0, 1, 2, 7):
        file = codec.encode(x, Target(max_error=error))
        y = decode(file.data)
        assert y.complete
        found = np.abs(y.array.astype(int) - x)
        colours = found[..., :3] if kind == "alpha" else found
        assert colours.max() == error
        assert kind != "alpha" or found[..., 3].max() == 0
        assert file.mse == pytest.approx(np.mean(colours.astype(float) ** 2))
        sizes.append(len(file.data))
    assert sizes[0] == len(codec.encode(x, Target(lossless=True)).data)
    if kind != "alpha":  # most of which is noise in the transparency
        assert sizes[1] < 0.72 * sizes[0]
        assert sizes[2] < 0.8 * sizes[1]
    assert sizes == sorted(sizes, reverse=True)


@pytest.mark.parametrize("wrong", [-1, MAX_ERROR + 1, 1.5, "1"])
def test_what_is_no_error_is_refused(wrong):
    with pytest.raises(CodecError):
        Target(max_error=wrong)
    with pytest.raises(CodecError):
        Target(max_error=1, lossless=True)
