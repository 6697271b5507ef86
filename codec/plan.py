"""How many bits each step of the chain gets: integers that encoder and decoder derive from the model and one byte.

A model carries levels gamma_0 > gamma_1 > ... and, for each, how much its test-free calibration set needed to get
there: the cumulative mean of KL per dimension (bits, times 2^24). An image scales this by a multiplier, one byte on a
logarithmic scale. Nothing here is floating point, so nothing here can differ between machines.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

UNIT = 24  # tables count 2^-24 bits per dimension
MULTIPLIERS = 256


def multiplier(code: int) -> int:
    """Code 0..255 -> the multiplier times 512: 5 bits of mantissa, 3 of exponent; 1/16 to 15.75, code 128 is 1."""
    if not 0 <= code < MULTIPLIERS:
        raise ValueError(f"a multiplier code is one byte, not {code}")
    return (32 + code % 32) << (code // 32)


@dataclass(frozen=True)
class Plan:
    """Steps of a chain over ``dims`` dimensions, cut out of the model's tables.

    levels: descending gammas. cumulative: integers, one per level, the first 0. min_bits: neighbouring levels are
    skipped until a step at multiplier 1 has so many bits, as short messages are inefficient.
    """

    dims: int
    levels: tuple[float, ...]
    cumulative: tuple[int, ...]
    min_bits: int

    @cached_property
    def stops(self) -> tuple[int, ...]:
        """Indices into ``levels`` of x_T, ..., the steps' ends; the last level is always one."""
        stops, last = [0], len(self.levels) - 1
        for i in range(1, len(self.levels)):
            if self._bits(self.cumulative[i], 128) - self._bits(self.cumulative[stops[-1]], 128) >= self.min_bits:
                stops.append(i)
        if stops[-1] != last:
            stops[1 if len(stops) == 1 else -1 :] = [last]
        return tuple(stops)

    @cached_property
    def gammas(self) -> tuple[float, ...]:
        return tuple(self.levels[i] for i in self.stops)

    @property
    def steps(self) -> int:
        return len(self.stops) - 1

    def _bits(self, cumulative: int, code: int) -> int:
        return cumulative * self.dims * multiplier(code) >> (UNIT + 9)

    def bits(self, step: int, code: int) -> int:
        """Bits of the message of step 0, 1, ...; at most one per dimension."""
        lower, upper = (self._bits(self.cumulative[i], code) for i in self.stops[step : step + 2])
        return min(upper - lower, self.dims)

    def total(self, steps: int, code: int) -> int:
        """Bits of the first ``steps`` steps."""
        return sum(self.bits(k, code) for k in range(steps))

    def totals(self, code: int) -> list[int]:
        """Bits of the first 0, 1, ..., all steps."""
        out = [0]
        for k in range(self.steps):
            out.append(out[-1] + self.bits(k, code))
        return out


def plan_for(coding: dict, dims: int, grey: bool) -> Plan:
    """The plan that a model's coding tables give for an image of ``dims`` coded dimensions."""
    table = coding["grey_cumulative" if grey else "cumulative"]
    return Plan(dims, tuple(coding["levels"]), tuple(table), coding["min_bits"])
