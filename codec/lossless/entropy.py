"""Range coding of integers under discretized Gaussians, with probabilities that are integers from a table.

A pixel has a mean on a grid of 1/16 grey level and a standard deviation on a grid of eighths of an octave. Pixels with
the same fraction of the mean and the same deviation have the same distribution about the value below their mean, so
they are coded together; only near black and white, where the end bins take what lies beyond (Ho et al. 2020, eq. 13),
does the value itself matter. Counts come from the normal cdf, rounded, the same on every machine.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from itertools import pairwise

import numpy as np
from constriction import stream  # pyright: ignore[reportAttributeAccessIssue]  # stubs lack it

from codec.errors import CodecError, DamagedFile
from ddpm.diffusion.likelihood import LN2, UNIT_LEVELS
from ddpm.exact.normal import cdf, powers_of_two

Categorical, Uniform = stream.model.Categorical, stream.model.Uniform

FRACTIONS = 16  # of a grey level
OCTAVE = 8  # deviations per factor of two
LOWEST, HIGHEST = -5 * OCTAVE, 4 * OCTAVE  # deviations of 2^-5 ... 2^4 grey levels
TOTAL = 1 << 20
ESCAPES = 8  # of TOTAL: a value that the table does not reach is sent plainly
SHAPE = FRACTIONS, HIGHEST - LOWEST + 1, 256, 256  # of all distributions: fraction, scale, values below and above
CHUNK = 1 << 20  # pixels that are worked on at once: large pictures need the room


def integers(mean: np.ndarray, log_std: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means and logarithms of deviations in units of x, -1 to 1 -> sixteenths of a grey level, eighths of an octave."""
    if not (np.isfinite(mean).all() and np.isfinite(log_std).all()):
        raise CodecError("the network's answer is not finite; this model cannot code these pictures")
    means = np.rint((mean + 1) * (UNIT_LEVELS * FRACTIONS)).astype(np.int64)
    scales = np.rint((log_std + math.log(UNIT_LEVELS)) * (OCTAVE / LN2)).astype(np.int64)
    return np.clip(means, 0, 255 * FRACTIONS), np.clip(scales, LOWEST, HIGHEST)


def floats(means: np.ndarray, scales: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The inverse of ``integers``, but for its rounding: means, and logarithms of deviations, in units of x."""
    return means / (FRACTIONS * UNIT_LEVELS) - 1, scales * (LN2 / OCTAVE) - math.log(UNIT_LEVELS)


@lru_cache(maxsize=1)
def stds() -> np.ndarray:
    """Deviations in grey levels, of the scales from LOWEST on."""
    return powers_of_two(LOWEST, HIGHEST, OCTAVE)


@lru_cache(maxsize=1)
def reaches() -> np.ndarray:
    """How many values to either side of the mean the table goes, of each scale from LOWEST on."""
    return np.minimum(255, np.ceil(7 * stds()).astype(int) + 2)


@lru_cache(maxsize=1)
def tables() -> dict[tuple[int, int], np.ndarray]:
    """(fraction, scale) -> counts of the values -reach ... reach about the one below the mean, int64, each >= 1."""
    out = {}
    for scale, std, r in zip(range(LOWEST, HIGHEST + 1), stds(), reaches()):
        edges = (np.arange(-r, r + 2) - 0.5 - np.arange(FRACTIONS)[:, None] / FRACTIONS) / std
        counts = np.rint(np.diff(cdf(edges)) * TOTAL).astype(np.int64) + 1
        out |= {(fraction, scale): row for fraction, row in enumerate(counts)}
    return out


def model_for(fraction: int, scale: int, below: int, above: int) -> stream.model.Categorical:
    """Symbols 0: escape, 1 ...: the values -below ... above about the one below the mean; the ends hold the tails."""
    counts, r = tables()[fraction, scale], reaches()[scale - LOWEST]
    inner = counts[r - below : r + above + 1].copy()
    inner[0] += counts[: r - below].sum()
    inner[-1] += counts[r + above + 1 :].sum()
    return Categorical(np.concatenate([[ESCAPES], inner]).astype(np.float32), perfect=False)


def groups(means: np.ndarray, scales: np.ndarray):
    """Pixels of one distribution together: yields (their indices, (fraction, scale, below, above), values below means).

    means: (n,) integers, sixteenths of a grey level, 0 to 255 * 16; scales: (n,) integers, eighths of an octave. Many
    of one distribution come some at a time.
    """
    n = len(means)
    packed = np.empty(n, np.uint64)  # the number of the distribution, then that of the pixel
    for i in range(0, n, CHUNK):
        some = slice(i, min(i + CHUNK, n))
        packed[some] = numbers(means[some], scales[some]) << 32 | np.arange(i, some.stop)
    packed.sort()
    pixel, number = packed.view(np.uint32).reshape(n, 2).T[:: 1 if sys.byteorder == "little" else -1]
    starts = np.flatnonzero(number[1:] != number[:-1]) + 1
    for i, j in pairwise([0, *starts.tolist(), n]):
        fraction, scale, below, above = (int(v) for v in np.unravel_index(number[i], SHAPE))
        for k in range(i, j, CHUNK):
            members = pixel[k : min(k + CHUNK, j)].astype(np.int64)
            yield members, (fraction, scale + LOWEST, below, above), means[members] // FRACTIONS


def numbers(means: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """(n,) int64, less than 2^27: fraction, scale, and how far the table reaches below and above, in one."""
    floor, fraction = np.divmod(means, FRACTIONS)
    r = reaches()[scales - LOWEST]
    return np.ravel_multi_index((fraction, scales - LOWEST, np.minimum(floor, r), np.minimum(255 - floor, r)), SHAPE)


def to_symbols(
    x: np.ndarray, means: np.ndarray, scales: np.ndarray
) -> Iterator[tuple[np.ndarray, stream.model.Categorical | stream.model.Uniform]]:
    """What is coded for x (n,), in order: symbols and their distribution; last the values that no table reached."""
    escaped = []
    for members, key, floor in groups(means, scales):
        symbols = x[members].astype(np.int64) - floor + key[2] + 1
        outside = (symbols < 1) | (symbols > key[2] + key[3] + 1)
        yield np.where(outside, 0, symbols).astype(np.int32), model_for(*key)
        escaped.append(members[outside])
    escaped = np.concatenate(escaped)
    if len(escaped):
        yield x[escaped].astype(np.int32), Uniform(256)


def from_symbols(coder, means: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """(n,) uint8: what ``to_symbols`` was given, from a coder that decodes them in order."""
    x, escaped = np.zeros(len(means), np.uint8), []
    for members, key, floor in groups(means, scales):
        symbols = coder.decode(model_for(*key), len(members))
        x[members] = (floor + symbols - key[2] - 1).astype(np.uint8)
        escaped.append(members[symbols == 0])
    escaped = np.concatenate(escaped)
    if len(escaped):
        x[escaped] = coder.decode(Uniform(256), len(escaped))
    return x


class Writer:
    """A range coder's output; ``Reader`` mirrors it call by call."""

    def __init__(self):
        self.coder = stream.queue.RangeEncoder()

    def pixels(self, x: np.ndarray, means: np.ndarray, scales: np.ndarray) -> None:
        """x (n,), 0 to 255, under their means and scales (see ``groups``)."""
        for symbols, model in to_symbols(x, means, scales):
            self.coder.encode(symbols, model)

    def bytes(self) -> bytes:
        return self.coder.get_compressed().astype("<u4").tobytes()


class Reader:
    """Reads what a ``Writer`` wrote. DamagedFile where that cannot be."""

    def __init__(self, data: bytes):
        if len(data) % 4:
            raise DamagedFile("the lossless part is damaged")
        self.coder = stream.queue.RangeDecoder(np.frombuffer(data, "<u4").astype(np.uint32))

    def pixels(self, means: np.ndarray, scales: np.ndarray) -> np.ndarray:
        with impossible_is_damage():
            return from_symbols(self.coder, means, scales)


@contextmanager
def impossible_is_damage():
    """Constriction asserts that what it reads can have been written under the distributions it is given."""
    try:
        yield
    except AssertionError:
        raise DamagedFile("the pixels do not come out as they went in: the file is damaged") from None
