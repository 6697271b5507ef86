"""Integers on which two machines agree although their floats differ a little.

Rounding to a grid fails where a value lies near the middle between two points: elsewhere it may go the other way. So
the values of a block are shifted together, and the encoder chooses a shift that leaves none of them within
``tolerance`` of such a middle. Any decoder whose values differ by less gets the same integers.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

BLOCK = 256  # values that are shifted together
CHUNK = 1 << 12  # blocks that are worked on at once: large pictures need the room
SHIFTS = 256  # equal parts of the spacing
# The order in which shifts are tried, bits reversed, so that the first ones already lie far apart.
TRIED = np.array([int(f"{i:08b}"[::-1], 2) for i in range(SHIFTS)])


def chunks(n: int) -> Iterator[tuple[slice, slice]]:
    """Blocks of n values, some at a time: the values, and the blocks that they are."""
    for i in range(0, -(-n // BLOCK), CHUNK):
        yield slice(i * BLOCK, min(n, (i + CHUNK) * BLOCK)), slice(i, i + CHUNK)


def offsets(n: int, shifts: np.ndarray, spacing: float) -> np.ndarray:
    """(n,) float64: what each value is shifted by; exact, as long as the spacing is a power of two."""
    return np.repeat(TRIED[shifts] * (spacing / SHIFTS), BLOCK)[:n]


def choose_shifts(values: np.ndarray, spacing: float, tolerance: float) -> np.ndarray:
    """(blocks,) int: for each block of values (n,) float64 the first safe one of TRIED, or the safest if none is."""
    return np.concatenate([_choose(values[some], spacing, tolerance) for some, _ in chunks(len(values))])


def _choose(values: np.ndarray, spacing: float, tolerance: float) -> np.ndarray:
    blocks = -(-len(values) // BLOCK)
    padded = np.concatenate([values, np.full(blocks * BLOCK - len(values), np.nan)]).reshape(blocks, BLOCK)
    shifts, room = np.zeros(blocks, int), np.full(blocks, -1.0)
    open_ = np.arange(blocks)
    for i in range(SHIFTS):
        shifted = (padded[open_] + TRIED[i] * (spacing / SHIFTS)) / spacing
        least = np.nanmin(np.abs(shifted - np.floor(shifted) - 0.5), 1) * spacing
        better = least > room[open_]
        shifts[open_[better]], room[open_[better]] = i, least[better]
        open_ = open_[least < tolerance]
        if not len(open_):
            break
    return shifts


def to_grid(values: np.ndarray, shifts: np.ndarray, spacing: float) -> np.ndarray:
    """(n,) int32: the grid points nearest to the shifted values."""
    points = np.empty(len(values), np.int32)
    for some, blocks in chunks(len(values)):
        shifted = values[some] + offsets(len(points[some]), shifts[blocks], spacing)
        points[some] = np.floor(shifted / spacing + 0.5)
    return points


def from_grid(points: np.ndarray, shifts: np.ndarray, spacing: float) -> np.ndarray:
    """(n,) float64: where the grid points lie, the shift taken back."""
    values = np.empty(len(points))
    for some, blocks in chunks(len(points)):
        values[some] = points[some] * spacing - offsets(len(points[some]), shifts[blocks], spacing)
    return values


def shift_counts(unsafe: int) -> np.ndarray:
    """(SHIFTS,) frequencies of the shifts, for their coding, where ``unsafe`` of 1024 blocks refuse a shift."""
    counts, rest = [], 1 << 20
    for _ in range(SHIFTS):
        following = rest * unsafe >> 10
        counts.append(max(1, rest - following))
        rest = following
    return np.array(counts)
