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


def parts(n: int) -> Iterator[tuple[slice, slice]]:
    """Blocks of n values, some at a time: the values, and the blocks that they are."""
    for i in range(0, -(-n // BLOCK), CHUNK):
        yield slice(i * BLOCK, min(n, (i + CHUNK) * BLOCK)), slice(i, i + CHUNK)


def shifts_for(n: int, choices: np.ndarray, spacing: float) -> np.ndarray:
    """(n,) float64: the shift of each value; exact, as long as the spacing is a power of two."""
    return np.repeat(TRIED[choices] * (spacing / SHIFTS), BLOCK)[:n]


def choose(values: np.ndarray, spacing: float, tolerance: float) -> np.ndarray:
    """(blocks,) int: for each block of values (n,) float64 the first choice that is safe, or the safest if none is."""
    return np.concatenate([_choose(values[part], spacing, tolerance) for part, _ in parts(len(values))])


def _choose(values: np.ndarray, spacing: float, tolerance: float) -> np.ndarray:
    blocks = -(-len(values) // BLOCK)
    padded = np.concatenate([values, np.full(blocks * BLOCK - len(values), np.nan)]).reshape(blocks, BLOCK)
    choices, room = np.zeros(blocks, int), np.full(blocks, -1.0)
    open_ = np.arange(blocks)
    for i in range(SHIFTS):
        shifted = (padded[open_] + TRIED[i] * (spacing / SHIFTS)) / spacing
        least = np.nanmin(np.abs(shifted - np.floor(shifted) - 0.5), 1) * spacing
        better = least > room[open_]
        choices[open_[better]], room[open_[better]] = i, least[better]
        open_ = open_[least < tolerance]
        if not len(open_):
            break
    return choices


def snapped(values: np.ndarray, choices: np.ndarray, spacing: float) -> np.ndarray:
    """(n,) int32: the grid points nearest to the shifted values."""
    points = np.empty(len(values), np.int32)
    for part, blocks in parts(len(values)):
        shifted = values[part] + shifts_for(len(points[part]), choices[blocks], spacing)
        points[part] = np.floor(shifted / spacing + 0.5)
    return points


def unsnapped(points: np.ndarray, choices: np.ndarray, spacing: float) -> np.ndarray:
    """(n,) float64: where the grid points lie, the shift taken back."""
    values = np.empty(len(points))
    for part, blocks in parts(len(points)):
        values[part] = points[part] * spacing - shifts_for(len(points[part]), choices[blocks], spacing)
    return values


def likely(unsafe: int) -> np.ndarray:
    """(SHIFTS,) counts of the choices, for their coding, where ``unsafe`` of 1024 blocks refuse a shift."""
    counts, rest = [], 1 << 20
    for _ in range(SHIFTS):
        following = rest * unsafe >> 10
        counts.append(max(1, rest - following))
        rest = following
    return np.array(counts)
