"""Functions of exact networks against plain NumPy with integers, to the last bit; and how near they are to torch's."""

from decimal import Decimal, localcontext
from functools import cache

import mpmath
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ddpm.exact import functions, passes, tables
from ddpm.exact.mode import Exactly

F32 = np.float32
shapes = st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 6), st.integers(1, 6))


def noise(shape, seed, scale=1.0):
    return (np.random.default_rng(seed).standard_normal(shape) * scale).astype(F32)


def rounded(x, bits):
    """Of one picture: integers and unit."""
    most, largest = F32(2 ** (bits - 1) - 1), max(np.abs(x).max(), F32(2.0**-100))
    return np.rint(x * (most / largest)).astype(np.int64), largest / most


def products(q, weight, stride, padding):
    """Sums for q (I, H, W) and weight (O, I, k, k), integers."""
    q = np.pad(q, ((0, 0), *[(padding, padding)] * 2))
    k = weight.shape[-1]
    windows = np.lib.stride_tricks.sliding_window_view(q, (k, k), (1, 2))[:, ::stride, ::stride]
    return np.einsum("ihwab,oiab->ohw", windows, weight)


def convolution(x, weight, bias, stride, padding):
    """As docs/exact.md has it, of one picture."""
    largest = np.maximum(np.abs(weight).max((1, 2, 3)), F32(2.0**-100)).astype(np.float64)
    few = max(1, 2304 // weight[0, 0].size)
    starts = range(0, weight.shape[1], few)
    for digit in (64, 32, 16, 8):
        unit = (largest / (digit // 2 * digit)).astype(F32)
        w = np.rint(weight.astype(np.float64) / unit.astype(np.float64)[:, None, None, None])
        high = np.rint(w / digit)
        high, low = high.astype(np.int64), (w - digit * high).astype(np.int64)
        most = max(np.abs(part[:, i : i + few]).sum((1, 2, 3)).max() for part in (high, low) for i in starts)
        bits = max(b for b in range(1, 13) if b == 1 or (2 ** (b - 1) - 1) * most < 2**24)
        if bits >= 10:
            break
    q, of_picture = rounded(x, bits)
    sums = [products(q, part, stride, padding) for part in (high, low)]
    v = (digit * sums[0] + sums[1]).astype(F32) * (unit * of_picture)[:, None, None]
    return v + bias[:, None, None]


@settings(max_examples=60, deadline=None)
@given(
    *(shapes, st.integers(1, 7), st.sampled_from([(3, 1, 1), (3, 2, 1), (1, 1, 0), (2, 2, 0)]), st.integers(0, 99)),
    st.booleans(),
)
def test_convolutions(shape, outputs, form, seed, little):
    """By the arithmetic of little work and by that of much."""
    size, stride, padding = form
    x, weight = noise(shape, seed, 3), noise((outputs, shape[1], size, size), seed + 1)
    bias = noise(outputs, seed + 2)
    assume(min(shape[2:]) + 2 * padding >= size)
    with Exactly(), torch.inference_mode(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(functions, "LITTLE", functions.LITTLE if little else 0)
        y = F.conv2d(torch.from_numpy(x), torch.from_numpy(weight), torch.from_numpy(bias), stride, padding)
    assert np.array_equal(y.numpy(), np.stack([convolution(one, weight, bias, stride, padding) for one in x]))


@pytest.mark.parametrize("little", [False, True])
@pytest.mark.parametrize("inputs", [64, 512, 2048])
@pytest.mark.parametrize("alike", [False, True])
def test_convolutions_of_many_inputs_keep_below_the_limit(inputs, alike, little, monkeypatch):
    """alike: weights and inputs of one size and sign, the largest sums there are."""
    monkeypatch.setattr(functions, "LITTLE", functions.LITTLE if little else 0)
    weight = np.full((2, inputs, 3, 3), F32(0.7)) if alike else noise((2, inputs, 3, 3), 0)
    x, bias = (np.full((inputs, 4, 4), F32(1.3)) if alike else noise((inputs, 4, 4), 1)), np.zeros(2, F32)
    with Exactly(), torch.inference_mode():
        y = F.conv2d(torch.from_numpy(x)[None], torch.from_numpy(weight), torch.from_numpy(bias), padding=1)
    y = y[0].numpy()
    assert np.array_equal(y, convolution(x, weight, bias, 1, 1))
    exact = F.conv2d(torch.from_numpy(x).double()[None], torch.from_numpy(weight).double(), padding=1)[0].numpy()
    assert ((y - exact) ** 2).mean() < 1e-4 * (exact**2).mean()


@settings(max_examples=40, deadline=None)
@given(shapes, st.sampled_from([1, 2, 3]), st.floats(-4, 4), st.integers(0, 99))
def test_group_norms(shape, groups, offset, seed):
    b, c, h, w = shape
    assume(c * h * w > 1)
    x = noise((b, c * groups, h, w), seed, 2) + F32(offset)
    gain, bias = noise(c * groups, seed + 1), noise(c * groups, seed + 2)
    arguments = [torch.from_numpy(gain), torch.from_numpy(bias), 1e-5]
    with Exactly(), torch.inference_mode():
        y = F.group_norm(torch.from_numpy(x), groups, *arguments)
    for one, answer in zip(x, y.numpy()):
        q, unit = rounded(one, 16)
        unit = np.float64(unit)
        for q_group, g, t, found in zip(*(np.split(part, groups) for part in (q, gain, bias, answer))):
            n = np.float64(q_group.size)
            mean, square = np.float64(q_group.sum()) / n, np.float64((q_group**2).sum()) / n
            r = 1 / np.sqrt(square - mean * mean + 1e-5 / (unit * unit))
            scale = (F32(r) * g)[:, None, None]
            assert np.array_equal(q_group.astype(F32) * scale + (t[:, None, None] - F32(mean) * scale), found)
    floats = F.group_norm(torch.from_numpy(x), groups, *arguments)
    torch.testing.assert_close(y, floats, rtol=1e-2, atol=2e-2)


@cache
def exp_table() -> np.ndarray:
    with localcontext(prec=40):
        return np.array([int((Decimal(-i) / 1024).exp() * 2**24 + Decimal("0.5")) for i in range(24 * 1024 + 1)])


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 2), st.integers(1, 3), st.integers(1, 40), st.integers(1, 16), st.integers(0, 99))
def test_attention(batch, heads, n, d, seed):
    q, k, v = (noise((batch, heads, n, d), seed + i, 2) for i in range(3))
    with Exactly(), torch.inference_mode():
        y = F.scaled_dot_product_attention(*map(torch.from_numpy, (q, k, v)))
    y = y.numpy()
    table = exp_table()
    for one in range(batch):
        (qi, of_q), (ki, of_k), (vi, of_v) = (rounded(part[one], 16) for part in (q, k, v))
        scale = np.float64(of_q) * np.float64(of_k) / np.sqrt(np.float64(d)) * 1024
        logits = np.rint(np.float64(qi @ ki.transpose(0, 2, 1)) * scale)
        below = np.minimum(logits.max(-1, keepdims=True) - logits, 24 * 1024).astype(int)
        weights = table[below]
        found = np.float64(weights @ vi) / np.float64(weights.sum(-1, keepdims=True)) * np.float64(of_v)
        assert np.array_equal(found.astype(F32), y[one])
    floats = F.scaled_dot_product_attention(*map(torch.from_numpy, (q, k, v)))
    torch.testing.assert_close(torch.from_numpy(y), floats, rtol=0, atol=2e-2)


def test_silu_and_waves_are_near_and_agree_with_their_tables():
    x = torch.from_numpy(noise((2, 8, 9, 5), 0, 12))
    with Exactly(), torch.inference_mode():
        y, waves = F.silu(x), (torch.sin(x), x.cos())
    torch.testing.assert_close(y, F.silu(x), rtol=0, atol=1e-3)
    at = np.rint(np.clip(x.numpy() * F32(1024), -32768, 32768)).astype(int)
    expected = np.where(x.numpy() > 32, x.numpy(), tables.wide_silu_table()[at + 32768])
    assert np.array_equal(y.numpy(), expected)
    for found, wanted in zip(waves, (x.sin(), x.cos())):
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-4)


def far_from_turning(values, unit, digits=40) -> bool:
    """Whether no value, as mpmath has it, lies where an error of a last digit of float64 turns its rounding."""
    with mpmath.workdps(digits):
        return all(abs(abs(v / unit - mpmath.nint(v / unit)) - 0.5) > 1e-9 for v in values)


@pytest.mark.slow
def test_tables_are_rounded_alike_everywhere():
    with mpmath.workdps(40):
        waves = [mpmath.sin(2 * mpmath.pi * i / functions.WAVES) for i in range(functions.WAVES)]
        numbers = [mpmath.mpf(i) / 1024 for i in range(-32768, 32769)]
        silu = [x / (1 + mpmath.exp(-x)) for x in numbers]
        exps = [mpmath.exp(-mpmath.mpf(i) / 1024) for i in range(24 * 1024 + 1)]
    assert far_from_turning(waves, mpmath.mpf(2) ** -20)
    assert far_from_turning(silu, mpmath.mpf(2) ** -16)
    assert far_from_turning(exps, mpmath.mpf(2) ** -24)


@pytest.mark.parametrize("steps", [1, 2, 33])
def test_powers_of_ten_and_exps_are_rounded_correctly(steps):
    numbers = torch.linspace(-9, 0, steps)
    with Exactly():
        found, exps = torch.logspace(-1, 1, steps, dtype=torch.float64), torch.exp(numbers)
    torch.testing.assert_close(found, torch.logspace(-1, 1, steps, dtype=torch.float64), rtol=1e-14, atol=0)
    for at, value in zip(numbers, exps):
        assert float(value) == F32(float(mpmath.exp(float(at))))


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 3), st.integers(1, 9), st.sampled_from([4, 8, 12]), st.integers(0, 99), st.booleans())
def test_without_kernels_it_is_the_same(batch, n, channels, seed, halved):
    """As on devices that have no numba."""
    x, gain, bias = (torch.from_numpy(noise(s, seed, 20)) for s in ((batch, n, channels), channels, channels))
    sums, unit = torch.from_numpy(noise((batch, n, 2 * channels), seed, 2.0**20)).round(), x[:, 0, 0].abs()
    dtype, zero = (torch.uint8, 128) if halved else (torch.float32, 0)
    calls = [lambda: passes.silu(x), lambda: passes.group_norm(x, 4, gain, bias, 1e-5)]
    calls += [
        lambda: passes.finished(sums, 64, gain, unit, bias),
        lambda: passes.read(x[:1], 8, torch.float32, 0, halved=False)[0],
    ]
    calls += [
        lambda: torch.cat(
            [v.double() for v in passes.read(x, 12, dtype, zero, halved=halved) if v is not None and v.ndim > 1]
        )
    ]
    calls += [lambda: passes.read(x, 12, dtype, zero, halved=halved)[2]]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passes.WORK, "done", passes.ENOUGH)
        with_kernels = [call() for call in calls]
        patch.setattr(passes.WORK, "done", -(1 << 60))
        for one, call in zip(with_kernels, calls):
            assert torch.equal(call(), one)


def test_what_is_remembered_is_what_is_computed(monkeypatch):
    """Of layers that are told the same again: also after many others, and if somebody writes on the answer."""
    monkeypatch.setattr(functions, "REMEMBERED", 7)
    weight, bias, other = (torch.from_numpy(noise(shape, 1)) for shape in ((5, 8), 5, 5))
    with torch.inference_mode():
        exactly = Exactly()
        for i in range(4):
            x = torch.from_numpy(noise((2, 8), i))
            asked = (x, bias), (x[:1], bias), (x, other), (x, None), (x * 2, None)
            with exactly:
                for told, b in asked:
                    F.linear(told, weight, b).add_(1)
                found = [F.linear(told, weight, b) for told, b in asked]
                new = [F.linear(told[:, None], weight, b)[:, 0] for told, b in asked]
            assert all(map(torch.equal, found, new))


def test_what_is_not_exact_is_refused():
    x = torch.randn(1, 4, 6, 6)
    calls = [torch.sigmoid, torch.tanh, lambda x: x.mean(), lambda x: x @ x, lambda x: torch.add(x, x, alpha=0.3)]
    calls += [lambda x: F.avg_pool2d(x, 3), lambda x: F.avg_pool2d(x, 2, 1), lambda x: x.div_(3)]
    calls += [lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"), lambda x: F.dropout(x, 0.1)]
    calls += [lambda x: F.conv2d(x, torch.randn(4, 1, 3, 3), groups=4), lambda x: x.sum(), lambda x: F.gelu(x)]
    for call in calls:
        with Exactly(), pytest.raises(ArithmeticError, match="exact"):
            call(x)
