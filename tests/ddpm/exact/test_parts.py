"""Parts of the exact network by themselves: kernels beside fractions, tables beside decimals, convolutions that err."""

import zlib
from decimal import Decimal, localcontext
from fractions import Fraction
from math import frexp, isqrt

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ddpm.exact import kernels
from ddpm.exact.convolution import LIMIT, Float32, is_exact
from ddpm.exact.tables import silu_table, wave_table

F32 = np.float32
NONE = F32(0)  # what is added to what is stored
ONE = 0, 1  # the part of a map that is its only position


def rounded(x, digits: int = 24) -> Fraction:
    """To a float of so many binary digits, ties to even; 24: float32, 53: float64."""
    x = Fraction(x)
    if not x:
        return x
    exponent = abs(x.numerator).bit_length() - x.denominator.bit_length()
    exponent -= abs(x) < Fraction(2) ** exponent
    unit = Fraction(2) ** (exponent - digits + 1)
    return round(x / unit) * unit


def root(x: Fraction) -> Fraction:
    """To float64. Of floats it is itself one or far from where rounding turns."""
    return rounded(Fraction(isqrt(int(x * 4**200)), 2**200), 53)


def scaled(x, gain, shift=0) -> Fraction:
    """x gain + shift in float32."""
    return rounded(rounded(Fraction(x) * Fraction(gain)) + Fraction(shift))


def clip(x, least, most) -> int:
    return min(max(round(x), least), most)


def in_row(values, dtype) -> np.ndarray:
    """A map of one position."""
    return np.array([values], dtype)


def floats(largest: float):
    """float32, with many powers of two, which make ties."""
    some = st.floats(2.0**-14, largest, width=32)
    return st.one_of(some, st.sampled_from([2.0**i for i in range(-14, int(np.log2(largest)) + 1)]))


INT16 = st.one_of(st.integers(-32768, 32767), st.sampled_from([-32768, -32767, -1, 0, 1, 32767]))
SUMS = st.one_of(st.integers(1 - LIMIT, LIMIT - 1), st.integers(-5000, 5000), st.sampled_from([1 - LIMIT, LIMIT - 1]))
LIMITS = NARROW, FINE, NO_LIMITS = (-100, 155), (-32768, 32767), (-(2**30), 2**30)  # the last show every digit
HALVES = st.integers(-40000, 40000).map(lambda n: n / 2)  # shifts


def test_halves_of_every_number():
    x = np.arange(-32768, 32768, dtype=np.int16)[:, None]
    high, low = np.empty((2, *x.shape), F32)
    kernels.halves((0, len(x)), x, NONE, (high, low))
    assert np.array_equal(256 * high + low, x)
    assert (high.min(), high.max(), low.min(), low.max()) == (-128, 127, 0, 255)
    stored = np.empty((2, *x.shape), np.uint8)
    kernels.halves((0, len(x)), x, F32(128), tuple(stored))
    assert np.array_equal(stored, np.stack([high + 128, low]))


@settings(deadline=None, max_examples=100)
@given(st.lists(INT16, min_size=1, max_size=24), floats(30000.0), HALVES, floats(2.0**20), st.sampled_from(LIMITS))
@example([-32768, 32767] * 96, 1.0, 0.5, 1.0, FINE)
@example([32767] * 191 + [-32768], 8000.0, 0.0, 2.0**-14, FINE)
@example([-32768] * 192, 40.0, 2.5, 2.0**-14, NARROW)  # no variance at all
@example([0], 40.0, 3.5, 1.0, NARROW)
def test_the_norm_rounds_as_fractions_do(x, gain, shift, floor, limits):
    c, total = len(x), sum(x)
    least, most = limits
    spread = c * sum(v * v for v in x) - total**2
    rate = rounded(rounded(1 / root(rounded(rounded(spread, 53) + Fraction(floor), 53)), 53))
    n = [rounded(rounded(c * v - total) * rate) for v in x]
    if limits == NO_LIMITS:
        gain, shift = 2.0 ** (29 - frexp(max(map(abs, n)))[1]), 0.0
    wanted = [clip(scaled(v, gain, shift), least, most) for v in n]
    high, low = np.empty((2, 1, c), F32)
    affine, maps = (np.full(c, gain, F32), np.full(c, shift, F32), floor), (high, low if limits == FINE else None)
    kernels.norm(ONE, in_row(x, np.int16), affine, (F32(least), F32(most), NONE), maps)
    assert (256 * high + low if limits == FINE else high)[0].tolist() == wanted


@settings(deadline=None, max_examples=50)
@given(SUMS, st.one_of(st.none(), SUMS), floats(8.0), HALVES, floats(20000.0))
@example(5, None, 0.5, 0.0, 1.0)  # ties: 2.5
@example(7, None, 0.5, 0.0, 1.0)
@example(4095, None, 0.5, 0.0, 1.0)  # 2047.5, beyond the end of the table
@example(-4097, None, 0.5, 0.0, 1.0)
@example(LIMIT - 1, LIMIT - 1, 8.0, 0.0, 20000.0)
def test_silu_is_looked_up_as_fractions_say(s, lower, gain, shift, scale):
    table = silu_table()
    total = s if lower is None else rounded(256 * s + lower)
    i = clip(scaled(total, gain, shift), -8192, 8191)
    wanted = clip(rounded(Fraction(float(table[i + 8192])) * Fraction(scale)), -24, 231)
    high, lows = np.empty((1, 1), F32), None if lower is None else in_row([lower], F32)
    affine = *(np.array([v], F32) for v in (gain, shift, scale)), table
    kernels.activate(ONE, (in_row([s], F32), lows), affine, (F32(-24), F32(231), NONE), (high, None))
    assert high[0, 0] == wanted


@settings(deadline=None, max_examples=50)
@given(INT16, SUMS, st.one_of(st.none(), SUMS), floats(16.0), HALVES)
@example(0, 1, None, 0.5, 0.0)
@example(32766, 3, None, 0.5, 0.0)  # 1.5 becomes 2: one too many
@example(-32768, -1, None, 0.5, 0.0)  # -0.5 becomes 0
@example(32767, 1 - LIMIT, 1 - LIMIT, 16.0, 0.0)
def test_sums_are_added_to_maps_as_fractions_say(x, s, lower, gain, shift):
    total = s if lower is None else rounded(256 * s + lower)
    wanted = clip(x + round(scaled(total, gain, shift)), -32768, 32767)
    out, lows = np.empty((1, 1), np.int16), None if lower is None else in_row([lower], F32)
    affine = np.array([gain], F32), np.array([shift], F32)
    kernels.add(ONE, in_row([x], np.int16), (in_row([s], F32), lows), affine, out)
    assert out[0, 0] == wanted


@settings(deadline=None, max_examples=50)
@given(SUMS, SUMS, SUMS, floats(8.0).map(lambda v: v * 2.0**-18), HALVES)
@example(0, 1, 1, 2.0**-8, 0.0)  # 1.5
@example(0, 2, 1, 2.0**-8, 0.0)  # 2.5
@example(0, 255, 255, 2.0**-1, 0.0)  # just beyond int16
@example(0, -256, 0, 2.0**-1, 0.0)  # its end
@example(LIMIT - 1, LIMIT - 1, LIMIT - 1, 2.0**-15, 0.0)  # neither of both sums is a float32
@example(1 - LIMIT, LIMIT - 1, 1 - LIMIT, 2.0**-23, 0.5)
def test_wide_sums_are_joined_as_fractions_say(h, rest, lower, gain, shift):
    gain = float(F32(gain))
    v = scaled(rounded(256 * rounded(128 * h + rest) + 128 * lower), gain, shift)
    args = ONE, in_row([h, rest], F32), in_row([lower], F32), (np.array([gain], F32), np.array([shift], F32))
    joined, out = np.empty((1, 1), np.int16), np.empty((1, 1), F32)
    kernels.join(*args, joined)
    kernels.read_out(*args, out)
    assert out[0, 0] == v
    assert joined[0, 0] == clip(v, -32768, 32767)


@settings(deadline=None, max_examples=50)
@given(
    st.lists(
        st.one_of(
            st.floats(width=32, allow_nan=False, allow_infinity=False),
            st.floats(-10, 10, width=32),
            st.integers(-(2**20), 2**20).map(lambda n: (n + 0.5) / 2**16),  # ties of the phase
            st.integers(-40000, 40000).map(lambda n: (n + 0.5) / 2**12),  # of z itself
        ),
        min_size=12,
        max_size=12,
    ),
    st.sampled_from([4096.0, 5000.3, 0.7]),
)
def test_what_is_read_of_z_is_as_fractions_say(values, scale):
    z, waves = np.array(values, F32).reshape(3, 2, 2), wave_table()
    high, low = np.empty((1, 1, 60), F32), np.empty((1, 1, 12), F32)
    kernels.features(ONE, high, low, z, (F32(scale), waves, NONE))
    for at, pixel in enumerate(z.reshape(3, 4).T):
        v = [Fraction(float(x)) for x in pixel]
        q = [clip(rounded(x * Fraction(float(F32(scale)))), -32768, 32767) for x in v]
        t = [clip(x * 65536, -(2**29), 2**29) for x in v]
        wanted = [x // 256 for x in q] + [waves[(x * n + turn) % 4096] for n in (1, 2) for turn in (0, 1024) for x in t]
        assert high[0, 0, 15 * at :][:15].tolist() == wanted
        assert low[0, 0, 3 * at :][:3].tolist() == [x % 256 for x in q]


def circle() -> Decimal:
    """2 pi, as 8 (4 atan(1/5) - atan(1/239))."""

    def atan_of_one_by(n: int) -> Decimal:
        return sum((Decimal((-1) ** k) / ((2 * k + 1) * Decimal(n) ** (2 * k + 1)) for k in range(40)), Decimal(0))

    return 8 * (4 * atan_of_one_by(5) - atan_of_one_by(239))


def sine(x: Decimal) -> Decimal:
    """By its series, -pi <= x <= pi."""
    terms, square = [x], x * x
    for k in range(2, 40, 2):
        terms.append(-terms[-1] * square / (k * (k + 1)))
    return sum(terms, Decimal(0))


def silu_in_decimals() -> list[Decimal]:
    x = [Decimal(i) / 512 for i in range(-8192, 8192)]
    return [2**14 * v / (1 + (-v).exp()) for v in x]


def waves_in_decimals() -> list[Decimal]:
    step = circle() / 4096
    return [127 * sine(step * (i if i < 2048 else i - 4096)) for i in range(4096)]


@pytest.mark.parametrize(
    ("table", "unit", "values", "crc"),
    [(silu_table, 2**14, silu_in_decimals, 1138170330), (wave_table, 1, waves_in_decimals, 4046692456)],
)
def test_tables_are_far_from_where_rounding_turns(table, unit, values, crc):
    with localcontext() as context:
        context.prec = 30
        exact = values()
    found = np.rint(table() * unit).astype("<i4")
    assert np.array_equal(found, table() * unit)
    assert found.tolist() == [int(v.to_integral_value()) for v in exact]
    assert min(abs(abs(v - v.to_integral_value()) - Decimal("0.5")) for v in exact) > 1e-6
    assert zlib.crc32(found.tobytes()) == crc


class Pairs(Float32):
    """As processors without dot products of bytes: sums of two products are cut to 16 bits. Of inputs u = q + zero."""

    dtype, most = torch.uint8, 32767

    def __init__(self, weight, zero, stride):
        super().__init__(weight, zero, stride)
        self.zero = zero

    def __call__(self, x, padding):
        x = F.pad(x.float().permute(0, 3, 1, 2), (padding[1], padding[1], padding[0], padding[0]), value=self.zero)
        out = -self.zero * self.weight.sum((1, 2, 3))[:, None, None]
        for i, j in np.ndindex(*self.weight.shape[2:]):
            rows, columns = (n - k + 1 for n, k in zip(x.shape[2:], self.weight.shape[2:]))
            part = x[:, :, i : i + rows : self.stride, j : j + columns : self.stride]
            products = part[:, None] * self.weight[:, :, i, j, None, None]
            out = out + (products[:, :, ::2] + products[:, :, 1::2]).clamp(-self.most - 1, self.most).sum(2)
        return out.permute(0, 2, 3, 1).contiguous()


class Wrong(Float32):
    def __call__(self, x, padding):
        return self.wrong(x, super().__call__(x, padding))


class OffByOne(Wrong):
    def wrong(self, x, sums):
        return sums + (sums.abs() > LIMIT - 70000)


class OfManyPictures(Wrong):
    def wrong(self, x, sums):
        return sums + (len(x) >= 16)


class OfSmallKernels(Wrong):
    def wrong(self, x, sums):
        return sums + (self.weight.shape[-1] == 1)


class OfPairsOfRows(Wrong):
    def wrong(self, x, sums):
        return sums + (self.weight.shape[-1] == 2)


class OfSingleColumns(Wrong):
    def wrong(self, x, sums):
        return sums + (self.stride > 1 and sums.shape[2] == 1)


class AtTheEdge(Wrong):
    def wrong(self, x, sums):
        edge = torch.zeros_like(sums)
        edge[:, -1, -1] = 1
        return sums + edge


class InBfloat16(Wrong):
    def wrong(self, x, sums):
        return sums.bfloat16().float()


class Missing(Float32):
    def __call__(self, x, padding):
        raise NotImplementedError


def test_floats_are_exact():
    assert is_exact(Float32)


@pytest.mark.parametrize(
    "kind",
    [Pairs, OffByOne, OfManyPictures, OfSmallKernels, OfPairsOfRows, OfSingleColumns, AtTheEdge, InBfloat16, Missing],
)
def test_a_convolution_that_errs_is_not_believed(kind):
    assert not is_exact(kind)


def test_pairs_err_by_their_limit_alone():
    """Without it they are exact, so that it is for it that they are not believed."""

    class Unlimited(Pairs):
        most = LIMIT

    assert is_exact(Unlimited)
