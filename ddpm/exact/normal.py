"""The normal distribution, and powers of two, the same to the last bit on every machine: see docs/exact.md.

The density at n / FINE follows from that before by products of integers, its integral by the formula of Euler and
Maclaurin; what that leaves out is below 2^-75.
"""

from __future__ import annotations

from decimal import Decimal, localcontext
from functools import lru_cache

import numpy as np

from ddpm.diffusion.rounded import DIGITS

FINE = 2048  # parts of a unit
END = 10  # beyond it nothing is known: there is less than 2^-76
BITS = 192  # of the integers' fractions
CDF_BITS = 53


@lru_cache
def density() -> list[int]:
    """exp(-x^2 / 2) at x = n / FINE, n = 0 ... END FINE, in units of 2^-BITS."""
    with localcontext(prec=BITS // 3):
        ratio, fall = (int((Decimal(-n) / (2 * FINE**2)).exp() * 2**BITS) for n in (1, 2))
    values = [1 << BITS]
    for _ in range(END * FINE):
        values.append(values[-1] * ratio >> BITS)
        ratio = ratio * fall >> BITS
    return values


@lru_cache
def beyond() -> list[int]:
    """The integral of ``density`` over n from each of its points on."""
    out, total, square = [], 0, FINE**2
    for n, p in reversed([*enumerate(density())]):
        ends = p * n // (12 * square) - p * n * (n * n - 3 * square) // (720 * square**3)
        out.append(total + p // 2 - ends)
        total += p
    return out[::-1]


def mass_beyond(bits: int) -> np.ndarray:
    """(END FINE + 1,) int64: that of N(0, 1) beyond n / FINE, in units of 2^-bits, rounded."""
    all_of_it = 2 * beyond()[0]
    return np.array([((2 * mass << bits) + all_of_it) // (2 * all_of_it) for mass in beyond()])


@lru_cache
def expansions() -> np.ndarray:
    """(2048 END + 1, 4) float64: of the cdf about x = n / 1024, n from -1024 END on, by powers of 1024 (x' - x)."""
    beyond_it, half = mass_beyond(CDF_BITS)[::2] / 2.0**CDF_BITS, beyond()[0]
    first = np.array([p / half for p in density()[::2]])  # Python rounds this correctly
    n = np.arange(len(first))
    second, third = n * first / 2.0**21, (n * n - 2.0**20) * first / (6 * 2.0**40)
    left, right = (beyond_it, first, second, third), (1 - beyond_it, first, -second, third)
    return np.concatenate([np.stack(left, 1)[:0:-1], np.stack(right, 1)])


def cdf(x: np.ndarray) -> np.ndarray:
    """Of N(0, 1), within 2^-48, float64; x is finite."""
    x = x * 1024.0
    at = np.rint(x)
    rows = expansions().take(at.astype(np.int64) + 1024 * END, 0, mode="clip")
    c0, c1, c2, c3 = np.moveaxis(rows, -1, 0)
    x -= at
    return ((c3 * x + c2) * x + c1) * x + c0


@lru_cache
def powers_of_two(first: int, last: int, parts: int) -> np.ndarray:
    """2^(k / parts) for k from ``first`` to ``last``, float64, rounded correctly."""
    with localcontext(prec=DIGITS):
        unit = Decimal(2).ln() / parts
        return np.array([float((unit * k).exp()) for k in range(first, last + 1)])
