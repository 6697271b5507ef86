"""Integers under Gaussians, coded with tables: several times faster than a cdf for each, and within a known cost.

A mean is rounded to a fraction of a grid point and a deviation, if there are many, to a fraction of an octave. Integers
with the same fraction and the same deviation then have the same distribution about the integer below their mean, and
are coded together.

q has one deviation, or one for each band of frequencies, and these are not rounded: bits-back is paid for what is
borrowed, whatever q, but q must be the one that p was made for, as the bound has no minimum there. All is rounded alike
on every machine.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from constriction import stream  # pyright: ignore[reportAttributeAccessIssue]  # stubs lack it

from codec.errors import CodecError
from ddpm.diffusion.likelihood import LN2
from ddpm.exact.normal import cdf, powers_of_two

FINENESS = 8  # grid points per standard deviation, at least
WIDEST = 1 << 10  # grid points per standard deviation, at most; a wider Gaussian is coded as this one
REACH = 7  # standard deviations to either side that are coded directly; every grid point in it takes 2^-24 of the mass
MASS = 1 << 24  # all of it, in integers; float32 and its sums have them exactly
ROOM = 1 << 25  # integers that tables are kept for
COST = 5e-4  # bits that rounding may cost a dimension over a whole chain, for means and deviations each


def power_of_two(x: float) -> int:
    """The least that is not below x."""
    fraction, exponent = math.frexp(x)  # x = fraction 2^exponent, fraction from 1/2 on
    return 1 << max(0, exponent - (fraction == 0.5))


@dataclass(frozen=True)
class Frame:
    """Integers (n,) in groups of one distribution each.

    order: (n,) their indices, group by group. In that order: centre (n,), what is subtracted from them to give symbols;
    reach (n,), the largest symbol and minus the smallest; models, how many come next and the distribution of their
    symbol + reach.
    """

    order: np.ndarray
    centre: np.ndarray
    reach: np.ndarray
    models: list[tuple[int, stream.model.Categorical]]


class Gaussians:
    """The rounding that suits a chain of T = ``steps``.

    A mean that is off by e costs e^2 / (2 std^2) nats, twice a step, where q is borrowed from and where p is coded; a
    deviation of p that is off by a factor of e^d costs d^2. By rounding e^2 and d^2 are a twelfth of the square of the
    spacing.
    """

    def __init__(self, steps: int):
        budget = COST * LN2 / steps  # nats
        self.fractions = power_of_two(math.sqrt(1 / 12 / budget) / FINENESS)  # of a grid point
        self.octave = power_of_two(LN2 * math.sqrt(1 / 12 / budget))  # deviations per factor of two
        # All deviations from 1 to WIDEST, and what lies between them on their logarithmic scale.
        between = powers_of_two(0, 2 * self.octave * (WIDEST.bit_length() - 1), 2 * self.octave)
        self.stds, self.edges = between[::2], between[1::2]
        self.made, self.room = {}, ROOM

    def frame(self, mean: np.ndarray, std: np.ndarray | float, *, exact=False) -> Frame:
        """For means (n,) and deviations, as many or one, in grid points. exact: these are few, and not rounded."""
        if not (np.isfinite(mean).all() and np.isfinite(std).all() and np.min(std) > 0):
            raise CodecError("the network's answer is not finite; this model cannot code these pictures")
        std, shift, lowest, known = np.clip(std, 1, WIDEST), self.fractions.bit_length() - 1, 0, self.stds
        fine = np.rint(mean * self.fractions).astype(np.int64)
        code = fine & self.fractions - 1
        if std.ndim:
            known, scale = np.unique(std, return_inverse=True) if exact else (known, np.searchsorted(self.edges, std))
            lowest = int(scale.min())
            code += scale - lowest << shift
        counts = np.bincount(code)
        order = np.argsort(code.astype(np.uint16 if len(counts) <= 1 << 16 else np.uint32), kind="stable")
        present = np.flatnonzero(counts)
        counts, fractions, scales = counts[present], present & self.fractions - 1, (present >> shift) + lowest
        stds = known[scales] if std.ndim else np.full(len(present), std)
        each = zip(counts.tolist(), fractions.tolist(), stds.tolist())
        models = [(count, self.tables(s)[f]) for count, f, s in each]
        return Frame(order, (fine >> shift)[order], np.repeat(reach(stds), counts), models)

    def tables(self, std: float) -> list[stream.model.Categorical]:
        """Of one deviation, for all fractions; kept while there is room."""
        if std not in self.made:
            if self.room < 0:
                self.made, self.room = {}, ROOM
            self.made[std] = tables(std, self.fractions)
            self.room -= self.fractions * 2 * int(reach(std))
        return self.made[std]


def reach(std):
    """Integers to either side of a mean that are coded directly."""
    return np.ceil(REACH * std).astype(np.int32)


def tables(std: float, fractions: int) -> list[stream.model.Categorical]:
    """The integers within reach of 0 under means of 0, 1, ... of so many ``fractions``."""
    r, means = reach(std), np.arange(fractions)[:, None] / fractions
    below = np.rint(cdf((np.arange(-r, r + 2) - (0.5 + means)) / std) * MASS)
    return [stream.model.Categorical(mass, perfect=False) for mass in np.diff(below).astype(np.float32)]
