"""How many bits each step of the chain gets: integers that encoder and decoder derive from the model and two bytes.

A model carries levels infinity > gamma_T > ... > gamma_0 and, for each, the bits per dimension that its calibration
pictures needed to get there (cumulative means, times 2^24). Pictures differ from that mean mostly by a factor and, next
to it, by how their cost leans towards coarse or fine detail; so there are ``TILTS`` such tables, and a picture names
one of them and a factor (its ``Profile``). Where a step is long, a byte of its own corrects even that. A picture unlike
all others (one colour, a screen, noise) is FREE of the tables: a byte says the bits of each step. Nothing here is
floating point, so nothing can differ between machines.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise

START_BITS = 6  # on top for the first step, whose message is short for small pictures and so inefficient
UNIT = 24  # tables count 2^-24 bits per dimension
SHARE = 19  # the shares of FREE files count 2^-19 bits per dimension
LONG = 512  # bits from which a step has a correction
REGISTER = 28  # the first bits of a message only say where its walk begins: they show little by themselves
FACTORS, TILTS, MAX_STEPS = 128, 8, 63  # of a header's two bytes: 7, 3 and 6 bits
STRIDES = 4  # 1, ..., 4: of another byte 2 bits


@dataclass(frozen=True, order=True)
class Profile:
    """factor: code 0..127, 4 bits of mantissa and 3 of exponent, 1/16 to 15.5, code 64 is 1. tilt: which table."""

    factor: int
    tilt: int

    @property
    def scale(self) -> int:
        """The factor times 256."""
        return (16 + self.factor % 16) << (self.factor // 16)


MEAN = Profile(64, TILTS // 2)  # what the calibration pictures have on average
FREE = Profile(0, 0)  # no table: each step says itself how many bits it has


@dataclass(frozen=True)
class Plan:
    """Steps of a chain over ``dims`` dimensions, cut out of the model's tables.

    levels: descending gammas, at least three, the first infinite: the first step sends z_T. tables: TILTS of integers,
    one per level, rising from 0. min_bits: neighbouring levels are skipped until a step of the MEAN profile has so many
    bits, as short messages are inefficient. reference: what an ideal channel needs for each level, bits/dim; for the
    encoder's choice of a profile only. long: bits from which a step has a correction, see ``Allotment``. stride: of the
    levels from ``whole`` on, where the network sees the whole picture, only every so many-th is used, and the last.
    coded: how many dimensions have any signal at each level; all of them if it is empty.
    """

    dims: int
    levels: tuple[float, ...]
    tables: tuple[tuple[int, ...], ...]
    min_bits: int
    reference: tuple[float, ...] = ()
    long: int = LONG
    stride: int = 1
    whole: int = 1
    coded: tuple[int, ...] = ()

    @cached_property
    def stops(self) -> tuple[int, ...]:
        """Indices into ``levels`` of x_T, ..., the steps' ends; the last level is always one."""
        stops, last = [0], len(self.levels) - 1
        for i in range(1, last + 1):
            if self._bits(i, MEAN) - self._bits(stops[-1], MEAN) >= self.min_bits:
                stops.append(i)
        if stops[-1] != last:
            stops[1 if len(stops) == 1 else -1 :] = [last]
        coarse = sum(i < self.whole for i in stops)
        return (*stops[:coarse], *stops[coarse:][::-1][:: self.stride][::-1])

    @cached_property
    def gammas(self) -> tuple[float, ...]:
        return tuple(self.levels[i] for i in self.stops)

    def ideal(self) -> list[float]:
        """Bits of each step that an ideal channel needs for the calibration pictures."""
        return [self.dims * sum(self.reference[a:b]) for a, b in pairwise(self.stops)]

    @property
    def steps(self) -> int:
        return len(self.stops) - 1

    def _bits(self, level: int, profile: Profile) -> int:
        return self.tables[profile.tilt][level] * self.dims * profile.scale >> (UNIT + 8)

    def room(self, step: int) -> int:
        """Dimensions that step 0, 1, ... sends something of."""
        return self.coded[self.stops[step + 1]] if self.coded else self.dims

    def bits(self, step: int, profile: Profile) -> int:
        """Bits of the message of step 0, 1, ...; at most one per dimension that it sends something of."""
        lower, upper = (self._bits(i, profile) for i in self.stops[step : step + 2])
        return min(upper - lower + (START_BITS if step == 0 else 0), self.room(step))

    def is_long(self, step: int, profile: Profile) -> bool:
        """Whether a step has a correction."""
        return profile == FREE or self.long <= self.bits(step, profile)

    def totals(self, profile: Profile) -> list[int]:
        """Bits of the first 0, 1, ..., all steps."""
        return [0, *accumulate(self.bits(k, profile) for k in range(self.steps))]


@dataclass(frozen=True)
class Allotment:
    """The bits of each step of one file: those that its profile gives, in long steps times (128 + correction) / 256.

    corrections: a byte for each long step among the file's ``steps``; of a FREE file, for each step what share of a bit
    per dimension it has, ``share(correction)`` / 2^SHARE.
    """

    plan: Plan
    profile: Profile
    steps: int
    corrections: bytes = b""

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """Bits of the messages of the file's steps."""
        corrections = iter(self.corrections)
        return tuple(
            self.corrected(self.plan, self.profile, k, next(corrections)) if self.plan.is_long(k, self.profile) else n
            for k, n in enumerate(self.plan.bits(k, self.profile) for k in range(self.steps))
        )

    @property
    def total(self) -> int:
        """Bits of the payload."""
        return sum(self.sizes)

    @staticmethod
    def corrected(plan: Plan, profile: Profile, step: int, correction: int) -> int:
        """Bits of a long step; rising with the correction."""
        if profile == FREE:
            return min(plan.dims * share(correction) >> SHARE, plan.room(step))
        return min(plan.bits(step, profile) * (128 + correction) >> 8, plan.room(step))

    @staticmethod
    def correction(plan: Plan, profile: Profile, step: int, wanted: float) -> int:
        """The greatest correction that gives a long step no more than the bits wanted, or the least there is."""
        fitting = bisect_right(range(256), wanted, key=lambda c: Allotment.corrected(plan, profile, step, c))
        return max(0, fitting - 1)

    @staticmethod
    def count_long(plan: Plan, profile: Profile, steps: int) -> int:
        """How many of the first steps have a correction."""
        return sum(plan.is_long(k, profile) for k in range(steps))

    def complete(self, n_bits: int) -> int:
        """How many whole steps the first n bits of the payload hold."""
        return bisect_right(list(accumulate(self.sizes)), n_bits)

    def reach(self, n_bits: int) -> int:
        """How many steps to decode from the first n bits: the complete ones, and one more if most of it is there."""
        steps = self.complete(n_bits)
        if steps < self.steps:
            steps += 2 * (n_bits - sum(self.sizes[:steps])) > self.sizes[steps] + REGISTER
        return steps


def share(code: int) -> int:
    """A byte -> 0 to 31 * 2^14, each at most a sixteenth above the one before: 4 bits of mantissa and 4 of exponent."""
    return code if code < 16 else (16 + code % 16) << (code // 16 - 1)
