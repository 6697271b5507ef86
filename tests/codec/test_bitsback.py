"""The bits-back stack: what it takes it gives back, and what it grows by is the bound."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.harness.ledger import Ledger
from codec import Codec
from codec.archive.bitsback import Dry, Stack, bitsback_for
from codec.archive.gaussians import COST, Gaussians
from codec.archive.patches import CODE
from codec.lossless.context import Sight
from codec.lossless.entropy import integers
from codec.terms import CodeTerms
from ddpm.diffusion.bound import bound, terms_for
from ddpm.diffusion.reverse import Reverse
from tests.conftest import smooth_picture


def filled(n=20_000, seed=0, steps=50):
    return Stack(Gaussians(steps), np.random.default_rng(seed).integers(1, 1 << 32, n, dtype=np.uint32))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 300), st.floats(1, 200), st.booleans())
def test_pop_and_push_undo_each_other(seed, n, widest, tails):
    rng = np.random.default_rng(seed)
    mean, std = rng.normal(0, 1e4, n), rng.uniform(0.5, widest, n)
    stack = filled(3000, seed)
    before = stack.words()
    k = stack.pop(mean, std, tails)
    assert stack.bits < 32 * 3000
    stack.push(k, mean, std, tails)
    assert np.array_equal(stack.words(), before)
    far = np.rint(mean).astype(np.int64) + rng.integers(-5000, 5000, n)
    stack.push(far, mean, std)
    assert np.array_equal(stack.pop(mean, std), far)
    assert np.array_equal(stack.words(), before)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 500))
def test_pixels_and_bytes_come_back(seed, n):
    rng = np.random.default_rng(seed)
    x, mean, log_std = rng.integers(0, 256, n).astype(np.uint8), rng.uniform(-1.2, 1.2, n), rng.uniform(-8, 1, n)
    stack = filled(50, seed)
    before = stack.words()
    believed = lambda: Sight(None, *integers(mean, log_std), (1, 1, 1, n))  # noqa: E731
    stack.push_pixels(x, believed())
    stack.push_bytes(x.tobytes())
    assert stack.pop_bytes(n) == x.tobytes()
    assert np.array_equal(stack.pop_pixels(believed()), x)
    assert np.array_equal(stack.words(), before)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 300))
def test_what_is_borrowed_is_repaid(seed, n):
    stack, mean, std = filled(500, seed), np.linspace(-50, 50, n), np.linspace(8, 20, n)
    before = stack.words()
    stack.repay(stack.borrow(mean, std), mean, std)
    assert np.array_equal(stack.words(), before)


def test_what_is_borrowed_is_noise_whatever_lies_there():
    stack, n = filled(2000), 5000
    mean, std = np.zeros(n), np.full(n, 10.0)
    stack.push(np.zeros(n, np.int64), mean, std)
    k = stack.borrow(mean, std)
    assert k.std() == pytest.approx(10, rel=0.05)
    assert abs(k.mean()) < 0.6


@settings(max_examples=20, deadline=None)
@given(st.sampled_from([2, 10, 50, 250, 1000]), st.integers(0, 2**32))
def test_rounding_costs_what_it_may(steps, seed):
    """Draws from the very Gaussians, coded with the rounded ones; p comes up once a step, the mean of q too."""
    n, gaussians, rng = 60_000, Gaussians(steps), np.random.default_rng(seed)
    frame = gaussians.frame(mean := rng.uniform(-50, 50, n), std := 2 ** rng.uniform(3, 4, n))
    rounded = np.exp2(np.rint(np.log2(std) * gaussians.octave) / gaussians.octave)
    assert gaussians.stds[np.searchsorted(gaussians.edges, std)] == pytest.approx(rounded)
    middle = np.rint(mean * gaussians.fractions) / gaussians.fractions
    assert sum(count for count, _ in frame.models) == n
    assert np.array_equal(frame.centre, np.floor(middle)[frame.order])
    off = (mean - middle) ** 2 / (2 * rounded**2)
    kl = np.log(rounded / std) + std**2 / (2 * rounded**2) - 0.5 + 2 * off
    assert steps * kl.mean() / math.log(2) < 2 * COST


def test_nothing_is_borrowed_from_an_empty_stack():
    with pytest.raises(Dry):
        filled(20).borrow(np.zeros(200), np.full(200, 10.0))
    filled(200).borrow(np.zeros(200), np.full(200, 10.0))


@pytest.mark.parametrize("steps", [12, CODE])
@pytest.mark.parametrize("grey", [False, True])
def test_the_length_is_the_bound(model, steps, grey):
    x = np.stack([smooth_picture(16, 16, s, 1 if grey else 3) for s in range(16)])
    x = np.repeat(x[..., None], 3, 3) if grey else x
    pictures = torch.from_numpy(x.transpose(0, 3, 1, 2))
    own = steps == CODE
    x = x.transpose(0, 3, 1, 2)[:, : 1 if own and grey else 3]
    coder, stack = bitsback_for(model, steps)((16, 16, x.shape[1])), Ledger(Gaussians(12), filled().words())
    before = stack.words()
    bits = stack.bits
    coder.push(stack, x)
    net = (stack.bits - bits) / x.size
    assert net == pytest.approx(stack.ideal / x.size, abs=0.01)
    ideal = CodeTerms(Codec(model).setting((16, 16), grey)) if own else terms_for(Reverse(model), 12)
    expected = bound(ideal, [pictures], quiet=True).total
    assert net == pytest.approx(expected, abs=0.06 * (3 if own and grey else 1) ** 0.5)  # one draw against another
    assert np.array_equal(coder.pop(stack, x.shape), x)
    assert np.array_equal(stack.words(), before)


def test_what_pictures_cost_adds_up_to_the_stack(model):
    """So that a picture's share of a batch says whether it should have been stored."""
    for coder in (bitsback_for(model, steps)((16, 16, 3)) for steps in (6, CODE)):
        x = np.stack([smooth_picture(16, 16, seed=i) for i in range(6)]).transpose(0, 3, 1, 2)
        stack = filled(60_000)
        before = stack.bits
        costs = coder.push(stack, x)
        assert costs.shape == (6,)
        assert costs.sum() == pytest.approx(stack.bits - before, rel=0.01)
        alone = filled(60_000)
        coder.push(alone, x[:1])
        assert costs[0] == pytest.approx(alone.bits - before, rel=0.05)
