"""The tables of docs/exact.md that are not the network's, against arithmetic of any precision."""

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import ndtr

from ddpm.exact.normal import BITS, END, FINE, cdf, density, expansions, mass_beyond, powers_of_two

POINTS = st.integers(0, END * FINE)


@pytest.fixture(autouse=True)
def precise():
    with mpmath.workprec(200):
        yield


def mass(n: int):
    return mpmath.erfc(mpmath.mpf(n) / FINE / mpmath.sqrt(2)) / 2


@given(POINTS, st.sampled_from([24, 52, 53]))
def test_masses_are_rounded_correctly(n, bits):
    assert mass_beyond(bits)[n] == mpmath.nint(mass(n) * 2**bits)


@given(POINTS)
def test_densities_are_those_of_the_normal_distribution(n):
    error = mpmath.mpf(density()[n]) / 2**BITS / mpmath.exp(-((mpmath.mpf(n) / FINE) ** 2) / 2) - 1
    assert abs(error) < 2.0**-90


@given(POINTS.map(lambda n: n // 2))
def test_expansions_are_taylors(n):
    x, unit = mpmath.mpf(n) / 1024, mpmath.mpf(1) / 1024
    d = mpmath.npdf(x)
    expected = [1 - mass(2 * n), d * unit, -x * d * unit**2 / 2, (x**2 - 1) * d * unit**3 / 6]
    for sign, row in ((1, expansions()[1024 * END + n]), (-1, expansions()[1024 * END - n])):
        for power, (value, by) in enumerate(zip(row, expected)):
            by = mass(2 * n) if power == 0 and sign < 0 else by * (sign if power == 2 else 1)
            assert abs(value - by) <= max(2.0**-54, 2.0**-50 * abs(by) if power else 0)


@given(st.integers(0, 2**32 - 1))
def test_the_cdf_is_that_of_scipy(seed):
    x = np.random.default_rng(seed).uniform(-9, 9, 10_000)
    assert np.abs(cdf(x) - ndtr(x)).max() < 2.0**-48
    assert cdf(np.array([-1e6, -END, 0, END, 1e6])).tolist() == [0, 0, 0.5, 1, 1]


@given(st.floats(1, 1024), st.floats(0, 1))
def test_no_grid_of_integers_is_so_fine_that_the_cdf_falls(std, fraction):
    x = (np.arange(-7 * std, 7 * std + 2) - fraction) / std
    assert (np.diff(np.rint(cdf(x) * 2**24)) >= 0).all()


@given(st.integers(-400, 400), st.integers(1, 64))
def test_powers_of_two_are_rounded_correctly(k, parts):
    assert powers_of_two(k, k, parts)[0] == float(mpmath.mpf(2) ** (mpmath.mpf(k) / parts))
    assert powers_of_two(parts * (k // 8), parts * (k // 8), parts)[0] == 2.0 ** (k // 8)
