"""Randomness that encoder and decoder share, the same on every machine and for every library version.

Every number comes from raw words of Philox4x64-10 (Salmon et al. 2011), a counter-based generator: a stream is named by
a 128-bit key and any part of it can be made without the rest. Words become Gaussians through the inverse normal cdf,
rounded to a fixed-point grid, so that last-place differences between maths libraries vanish.
"""

from __future__ import annotations

import numpy as np
from scipy.special import ndtri

GRID = 2.0**-10  # spacing of the shared Gaussians
CHUNK = 1 << 20  # words
LABELS, PERMUTATION, SIGNS, NOISE = range(1, 5)  # purposes; each has its own streams


def words(purpose: int, seed: int, stream: int, n: int) -> np.ndarray:
    """n uint64 words of the stream named by (purpose, seed, stream); purpose < 2^8, seed < 2^64, stream < 2^56."""
    return generator(purpose, seed, stream).random_raw(n)


def generator(purpose: int, seed: int, stream: int) -> np.random.Philox:
    """What makes the words of a stream, from its beginning."""
    return np.random.Philox(key=np.array([seed, purpose << 56 | stream], np.uint64))


def gaussians(raw: np.ndarray) -> np.ndarray:
    """uint64 words -> N(0, 1) on the grid of spacing GRID, float32 (exact: every value is a multiple of GRID)."""
    u = ((raw >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52
    return on_grid(ndtri(u))


def stream_of_gaussians(purpose: int, seed: int, stream: int, n: int) -> np.ndarray:
    """The Gaussians of n ``words``, made a chunk at a time: on their way they take ten times their room."""
    source, out = generator(purpose, seed, stream), np.empty(n, np.float32)
    for i in range(0, n, CHUNK):
        out[i : i + CHUNK] = gaussians(source.random_raw(min(CHUNK, n - i)))
    return out


def on_grid(values: np.ndarray) -> np.ndarray:
    """float64 -> the nearest multiples of GRID, float32."""
    return (np.rint(values / GRID) * GRID).astype(np.float32)
