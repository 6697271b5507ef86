"""Tables of functions that machines compute to different last digits. Each entry is far from where rounding turns."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

ZERO_OF_HIGH = 128  # of the higher halves of int16, and of the waves
Z_UNIT = 1 << 12  # of z at unit variance, in the 16 bits that the network reads
WAVE = 127  # amplitude of the waves
PERIOD = 1 << 12  # of the slower wave, in units of 2^-16
SILU_UNIT = 512  # entries of the table in a unit
SILU_RANGE = 16
TINY = 2.0**-100  # the least that the largest value of a map, or weight, counts for
FINE = 16  # bits of maps that norms and attention round
WIDE_UNIT, WIDE_RANGE = 1 << 10, 32  # of the wider SiLU: entries in a unit; beyond its table it is x or 0


@lru_cache
def wave_table() -> np.ndarray:
    """(PERIOD,) float32 of integers: one period of a sine."""
    return np.rint(WAVE * np.sin(2 * np.pi * np.arange(PERIOD) / PERIOD)).astype(np.float32)


@lru_cache
def silu_table() -> np.ndarray:
    """(2 SILU_RANGE SILU_UNIT,) float32 of multiples of 2^-14: x / (1 + e^-x)."""
    x = np.arange(-SILU_RANGE * SILU_UNIT, SILU_RANGE * SILU_UNIT) / SILU_UNIT
    return (np.rint(x / (1 + np.exp(-x)) * 2**14) / 2**14).astype(np.float32)


@lru_cache
def wide_silu_table() -> np.ndarray:
    """(2 WIDE_RANGE WIDE_UNIT + 1,) float32 of multiples of 2^-16: x / (1 + e^-x)."""
    most = WIDE_RANGE * WIDE_UNIT
    x = np.arange(-most, most + 1) / WIDE_UNIT
    return (np.rint(x / (1 + np.exp(-x)) * 2**16) / 2**16).astype(np.float32)
