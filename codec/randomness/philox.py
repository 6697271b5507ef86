"""Randomness that encoder and decoder share, the same on every machine and for every library version.

Every number comes from raw words of Philox4x64-10 (Salmon et al. 2011), a counter-based generator: a stream is named by
a 128-bit key and any part of it can be made without the rest. Words become Gaussians on a grid: how many of the
integers that stand for the cdf between its points they reach. No float is rounded on the way.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from ddpm.exact.normal import mass_beyond

GRID = 2.0**-10  # spacing of the shared Gaussians
CHUNK = 1 << 16  # words
BITS, FIRST = 52, 16  # of a word that count; of those, which say at once where to look
LABELS, PERMUTATION, SIGNS, NOISE = range(1, 5)  # purposes; each has its own streams


def words(purpose: int, seed: int, stream: int, n: int) -> np.ndarray:
    """n uint64 words of the stream named by (purpose, seed, stream); purpose < 2^8, seed < 2^64, stream < 2^56."""
    return generator(purpose, seed, stream).random_raw(n)


def generator(purpose: int, seed: int, stream: int) -> np.random.Philox:
    """What makes the words of a stream, from its beginning."""
    return np.random.Philox(key=np.array([seed, purpose << 56 | stream], np.uint64))


@lru_cache
def edges() -> np.ndarray:
    """(E,) int64, ascending: 2^52 times the normal cdf between points of the grid, rounded."""
    upper = (1 << BITS) - mass_beyond(BITS)[1::2]
    return np.concatenate([(1 << BITS) - upper[::-1], upper])


@lru_cache
def first_look() -> tuple[np.ndarray, np.ndarray]:
    """For the first bits of a word: how many edges all such words reach, and the next edge, or 0 if more may follow."""
    begins = np.arange((1 << FIRST) + 1) << BITS - FIRST
    reached = np.searchsorted(edges(), begins, "right")
    following = edges()[reached[:-1]]  # those at the end no word reaches
    return reached[:-1].astype(np.int32), np.where(np.diff(reached) > 1, 0, following)


def gaussians(raw: np.ndarray) -> np.ndarray:
    """uint64 words -> N(0, 1) on the grid of spacing GRID, float32 (exact: every value is a multiple of GRID)."""
    words = (raw >> np.uint64(64 - BITS)).view(np.int64)
    reached, following = first_look()
    first = words >> BITS - FIRST
    following = following.take(first)
    points = reached.take(first) + (words >= following)
    crowded = np.flatnonzero(following == 0)
    points[crowded] = np.searchsorted(edges(), words[crowded], "right")
    return (points - len(edges()) // 2).astype(np.float32) * np.float32(GRID)


def stream_of_gaussians(purpose: int, seed: int, stream: int, n: int) -> np.ndarray:
    """The Gaussians of n ``words``, made a chunk at a time: on their way they take ten times their room."""
    source, out = generator(purpose, seed, stream), np.empty(n, np.float32)
    for i in range(0, n, CHUNK):
        out[i : i + CHUNK] = gaussians(source.random_raw(min(CHUNK, n - i)))
    return out


def on_grid(values: np.ndarray) -> np.ndarray:
    """float64 -> the nearest multiples of GRID, float32."""
    return (np.rint(values / GRID) * GRID).astype(np.float32)
