"""Viterbi's algorithm, by the cores of the machine.

Values of states are int16. They lie within some 60 standard deviations of a metric and grow by 5 in a stage at most.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import chain

import numpy as np
import torch

from ddpm.compiled import compiled
from ddpm.machine import all_threads, cpu_count

from .metrics import Metrics

STRETCH = 1024  # stages of a long message that are decided on together
LANES = 8  # stretches that a thread walks at once, fewer of longer registers than 14 bits
MOST_THREADS = 8  # each has a block of its own
OVERLAP = 128  # stages on each side of a cut between stretches that decide where the path passes it
EVERY = 8  # stages; so often the largest value is set to 0
NEVER = -(2**14)  # of states where a path must not begin


class OnCpu:
    """Over stages whose metrics it knows. Values are (K, 2^M), decisions packed bits, (S, K, 2^M / 8).

    stretch: stages of a long message that are decided on together. overlap: stages on each side of a cut between
    stretches that decide where the path passes it.
    """

    def __init__(self, metrics: Metrics, M: int):
        self.metrics, self.M, self.stretch, self.overlap = metrics, M, STRETCH, OVERLAP
        self.offsets = metrics.labels.offsets

    def anywhere(self, paths: int) -> np.ndarray:
        """Values of paths that may begin in any state."""
        return np.zeros((paths, 2**self.M), np.int16)

    def only(self, states: np.ndarray) -> np.ndarray:
        """Values of paths that begin in these states (K,)."""
        value = np.full((len(states), 2**self.M), NEVER, np.int16)
        value[np.arange(len(states)), states] = 0
        return value

    def walk(self, stages: np.ndarray, value: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Over stages (N, K), or (N, 1) where they are the same for all, from values: decisions, and values after them.

        decisions[:, i:j] are those of paths i to j.
        """
        paths = Paths(value, self.offsets)
        decisions = np.concatenate([paths.extend(block) for block in self.metrics(stages)])
        return decisions, paths.off[:, None] + paths.value

    def backward(self, stages: np.ndarray) -> np.ndarray:
        """(2^M,): the best value of a path over these stages (N, 1), the last one first, by where it begins."""
        value = np.zeros(2**self.M, np.int16)
        for block in self.metrics(stages):
            _backward(value, block, self.offsets)
        return value

    def likeliest(self, value: np.ndarray, count: int) -> np.ndarray:
        """The states of the largest values (2^M,), in any order."""
        return np.argpartition(value, -count)[-count:]

    def trace(self, decisions: np.ndarray, ends: np.ndarray, lengths: Sequence[int] | np.ndarray) -> list[np.ndarray]:
        """The bits, uint8, of the paths that after so many stages are in these states."""
        return [_trace(decisions[:n, k], int(end), self.M) for k, (end, n) in enumerate(zip(ends, lengths))]

    def by_groups(self, work: Callable[[np.ndarray], list], count: int, length: int) -> list:
        """What ``work`` makes of 0, ..., count - 1: of as many at a time as paths so long should be walked at once."""

        def alone(group):
            torch.set_num_threads(1)  # others are walked by the other cores
            return work(group)

        cores, lanes = min(_cores(), count), max(1, LANES >> max(0, self.M - 14))
        groups = np.array_split(np.arange(count), cores * -(-count // (lanes * cores)))
        with all_threads():
            return list(chain.from_iterable(_threads().map(alone, groups)))


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_cores())


def _cores() -> int:
    return min(cpu_count(), MOST_THREADS)


class Paths:
    """The best paths into all states, from K sets of values (K, 2^M) int16, each of its own: Viterbi's recursion."""

    def __init__(self, value: np.ndarray, offsets: np.ndarray):
        self.offsets, self.value = offsets, value.copy()
        self.off = np.zeros(len(value), int)  # what was taken off the values
        self.before = np.empty_like(self.value)
        self.won = np.empty((0, *value.shape), bool)

    def extend(self, block: np.ndarray) -> np.ndarray:
        """By s stages with metrics (s, K, kinds, groups, size), or with 1 for K where they are the same for all.

        Returns which of the branches 2w and 2w + 1 won: (s, K, 2^M / 8) bytes of packed bits.
        """
        if len(self.won) < len(block):
            self.won = np.empty((len(block), *self.value.shape), bool)
        _extend(block, self.offsets, self.value, self.before, self.won, self.off)
        return np.packbits(self.won[: len(block)], -1, bitorder="little")


@compiled
def _extend(block, offsets, value, before, won, off):
    """won (s, K, 2^M); others as of ``Paths``."""
    states = value.shape[1]
    half = max(states // 2, 1)
    metrics = np.empty((block.shape[2], half), np.int16)
    for k in range(len(value)):
        at = k if block.shape[1] > 1 else 0
        new, old = value[k], before[k]
        for s in range(len(block)):
            new, old = old, new
            for kind in range(len(metrics)):
                _look_up(block[s, at, kind], offsets, metrics[kind])
            even, odd = metrics[0], metrics[1]
            _choose(old, even, odd, new[:half], won[s, k, :half])
            if len(metrics) > 2:
                even, odd = metrics[2], metrics[3]
            else:
                even, odd = odd, even
            if states > 1:
                _choose(old, even, odd, new[half:], won[s, k, half:])
            if s % EVERY == 0:
                top = new[0]
                for w in range(states):
                    top = max(top, new[w])
                for w in range(states):
                    new[w] -= top
                off[k] += top
        if len(block) % 2:
            value[k] = new


@compiled
def _look_up(tables, offsets, out):
    """out (2^M / 2,): the metrics of branches from those of each group (groups, size), see ``Labels``."""
    size = tables.shape[1]
    if len(tables) == 1:
        out[:] = tables[0]
        return
    first, second, third, fourth = tables[0], tables[1], tables[2], tables[3]
    for upper in range(offsets.shape[1]):
        for run in range(0, size, 32):
            at = np.uintp(upper * size + run)  # unsigned: else each index might be one from the end
            a, b = np.uintp(run ^ offsets[0, upper]), np.uintp(run ^ offsets[1, upper])
            c, d = np.uintp(run ^ offsets[2, upper]), np.uintp(run ^ offsets[3, upper])
            for j in range(32):
                i = np.uintp(j)
                out[at + i] = first[a + i] + second[b + i] + third[c + i] + fourth[d + i]


@compiled
def _choose(old, even, odd, new, won):
    """The better one of the branches from states 2w and 2w + 1 (of a single state both come), for each w."""
    if len(old) == 1:
        won[0] = odd[0] > even[0]
        new[0] = old[0] + max(even[0], odd[0])
        return
    for w in range(len(new)):
        a, b = np.int16(old[2 * w] + even[w]), np.int16(old[2 * w + 1] + odd[w])
        won[w] = b > a
        new[w] = max(a, b)


@compiled
def _backward(value, block, offsets):
    """value (2^M,): the largest metric of any path that begins in each state before the stages of a block (s, 1, ...).

    The last stage comes first in it.
    """
    states = len(value)
    half = max(states // 2, 1)
    metrics = np.empty((block.shape[2], half), np.int16)
    for s in range(len(block)):
        for kind in range(len(metrics)):
            _look_up(block[s, 0, kind], offsets, metrics[kind])
        even, odd = metrics[0], metrics[1]
        if states == 1:
            value[0] = 0
            continue
        upper_even, upper_odd = (metrics[2], metrics[3]) if len(metrics) > 2 else (odd, even)
        before = np.empty_like(value)
        top = np.int16(-(2**15))
        for w in range(half):
            a = max(np.int16(value[w] + even[w]), np.int16(value[w + half] + upper_even[w]))
            b = max(np.int16(value[w] + odd[w]), np.int16(value[w + half] + upper_odd[w]))
            before[2 * w], before[2 * w + 1] = a, b
            top = max(top, a, b)
        for w in range(states):
            value[w] = before[w] - top


def _trace(decisions: np.ndarray, state: int, M: int) -> np.ndarray:
    """Follow the decisions (S, 2^M / 8) backwards from the final state: the bits of the stages, (S,) uint8."""
    bits = np.empty(len(decisions), np.uint8)
    for s in range(len(decisions) - 1, -1, -1):
        branch = 2 * state + (int(decisions[s, state >> 3]) >> (state & 7) & 1)
        bits[s], state = branch >> M, branch & (2**M - 1)
    return bits
