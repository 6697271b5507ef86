"""Gaussian channel simulation with a trellis: the heart of the codec.

The encoder knows a and b; the decoder shall hold zeta, distributed under p as N(0, 1), that looks drawn from q, where

    log q/p (zeta) = sum_i a_i zeta_i + b_i zeta_i^2 + const.

A message of S bits picks zeta from 2^S candidates made of shared random labels. Stage s of S carries the dimensions
s, s + S, s + 2S, ... Its label is chosen by M + 1 bits: bit s of the message and the M bits before it, held in a
register. The message closes on itself (a tail-biting code): before bit 0 come its last M bits, so no stage has fewer
candidates than another and no bit is spent on a start. All branch metrics are one matrix product; the best path is
found by the Viterbi algorithm. Decoding is a look-up.

The best path reaches along delta about as far as its bits allow, and hardly varies there, where a sample from q would
vary by 1. With a bit for each bit of KL that is a little short; what is missing shows in the next step's delta and is
asked for again. Where it reaches too far that is left as it is: z_s is then a little less noisy than it should be, and
the steps that follow cost less; to spend the excess on noise costs more bits in all.

A stage of more dimensions than a label has is folded: they share its entries. Such labels lie on a sphere, or paths
would lean towards large ones.

A message travels as its last M bits, then the others in order; what a cut message holds decodes.

Trellis codes for channel simulation: Sriramu et al. 2024, appendix; wrap-around decoding of tail-biting codes: Shao
et al. 2003.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import chain, pairwise
from typing import Protocol

import numpy as np
import torch

from ddpm.machine import cpu_count, has_fast_bf16

from .labels import Labels

MAX_ROWS = 128  # labels have so many dimensions; longer stages are folded
SPHERE_ROWS = 64  # to so many, where labels on a sphere are used for them
TILE = 64  # products of matrices whose sides are no multiples of it can take three times as long
BLOCK = 256  # stages whose branch metrics are held at once
CHUNK = 1 << 20  # dimensions; more are folded a part at a time
WINDOW = 6  # registers of stages on each side that decide on the seam
EFFORT = 2**16  # states times starting registers that the encoder tries
STRETCH = 1024  # stages of a long message that are decided on together
LANES = 8  # stretches that a thread walks at once
MOST_THREADS = 8  # each has a block of its own
OVERLAP = 128  # stages on each side of a cut between stretches that decide where the path passes it

# Values of states are int16. They lie within some 60 standard deviations of a metric and grow by 5 in a stage at most.
UNIT = 200  # a standard deviation
EVERY = 8  # stages; so often the largest is set to 0
NEVER = -(2**14)  # of states where a path must not begin


@dataclass(frozen=True)
class Trellis:
    """How ``bits`` bits choose ``dims`` Gaussians, 0 <= bits <= dims; the register has at most ``max_memory`` bits."""

    dims: int
    bits: int
    max_memory: int = 14
    sphere: bool = False  # labels of folded stages
    opposed: bool = False  # see labels.py; not with the first models

    def __post_init__(self):
        if not 0 <= self.bits <= self.dims:
            raise ValueError(f"a message for {self.dims} dimensions has 0 to {self.dims} bits, not {self.bits}")

    @property
    def memory(self) -> int:
        """M. Short messages do best with a register well below their own length (measured by bench/channel.py)."""
        return min(self.max_memory, self.bits // 2, 9 + self.bits // 16)

    @property
    def seams(self) -> int:
        """How many starting registers the encoder tries; of no concern to the decoder."""
        return min(2**self.memory, 32, max(1, EFFORT >> self.memory), max(1, 512 // self.bits))

    @property
    def rows(self) -> int:
        """Dimensions of a label: those of the longest stage, or fewer if that is folded."""
        longest = -(-self.dims // self.bits)
        return longest if longest <= MAX_ROWS else SPHERE_ROWS if self.sphere else MAX_ROWS

    @property
    def on_sphere(self) -> bool:
        return self.sphere and self.rows * self.bits < self.dims

    def fold(self, values: Values) -> torch.Tensor:
        """(dims,) -> (bits, rows): the dimensions of each stage, summed over those that share a label entry."""
        period = self.rows * self.bits
        most = CHUNK // period * period or CHUNK
        edges = {*range(0, self.dims, most), *range(0, self.dims, max(most, period)), self.dims}
        total = None
        for i, j in pairwise(sorted(edges)):
            part = values[i:j]
            if j - i > period:
                part = torch.nn.functional.pad(part, (0, -len(part) % period)).view(-1, period).sum(0)
            total = part.new_zeros(period) if total is None else total
            total[i % period :][: len(part)] += part
        return total.view(self.rows, self.bits).T

    def unfold(self, chosen: torch.Tensor) -> torch.Tensor:
        """(bits, rows) label entries -> (dims,), the adjoint of ``fold``."""
        repeats = -(-self.dims // (self.rows * self.bits))
        return chosen.T.reshape(-1).repeat(repeats)[: self.dims]

    @property
    def labels(self) -> Labels:
        return Labels(self.memory, self.on_sphere, self.opposed)

    def table(self, device) -> torch.Tensor:
        """(rows, 2^(M + 1)): column L labels the branch L."""
        return self.labels(torch.arange(2 ** (self.memory + 1), device=device), self.rows)


class Values(Protocol):
    """(dims,) float32: a tensor, or what makes its parts as they are asked for."""

    def __getitem__(self, part: slice) -> torch.Tensor: ...


@torch.inference_mode()
def encode(trellis: Trellis, a: Values, b: Values) -> np.ndarray:
    """The message, (bits,) uint8 of 0 and 1, whose zeta has the largest a zeta + b zeta^2."""
    M, S = trellis.memory, trellis.bits
    if S == 0:
        return np.zeros(0, np.uint8)
    search = _search(_Metrics(trellis, a, b), M)
    path = (_in_stretches if trellis.bits >= 2 * search.stretch else _tail_biting)(trellis, search)
    return np.concatenate([path[S - M :], path[: S - M]])


class _Metrics:
    """Stages (N, K) -> their branch metrics, a few stages after the other: blocks (s, K, n) int16.

    A block is valid until the next. Small integers, since most of the time goes into moving them: UNIT of them are the
    standard deviation of the metrics of that stage where they vary most. Rounding them costs no measurable efficiency.

    Of the n branches whose labels tell those of all, 0, 2, 4, ... come first, then 1, 3, 5, ...; see ``_arriving``.
    """

    def __init__(self, trellis: Trellis, a: Values, b: Values):
        self.bits, self.rows = trellis.bits, trellis.rows
        self.ab = trellis.fold(a), trellis.fold(b)
        square_a, square_b = map(_squares, self.ab)
        widest = float((square_a + 2 * square_b).max().sqrt())
        self.scale = UNIT * max(1, trellis.max_memory / trellis.bits) / max(widest, 1e-30)
        self.features = _features(trellis.labels, self.ab[0].device)[: 2 * self.rows + -2 * self.rows % TILE]

    def __call__(self, stages: np.ndarray) -> Iterator[np.ndarray]:
        K, branches = stages.shape[1], self.features.shape[1]
        few = max(TILE // K, 1) * K
        rounded = _room("rounded", few, branches, self.features.new_empty(0, dtype=torch.int16))
        for product in self.products(stages, BLOCK):
            for part in product.flatten(0, 1).split(few):
                yield rounded[: len(part)].copy_(part).cpu().numpy().reshape(-1, K, branches)

    def products(self, stages: np.ndarray, most: int) -> Iterator[torch.Tensor]:
        """The same on the device and not yet rounded, (s, K, n), of about ``most`` stages at once."""
        K, device = stages.shape[1], self.features.device
        stages = torch.from_numpy(stages.ravel()).to(device, non_blocking=True)
        branches, most = self.features.shape[1], max(most // K, 1) * K
        product = _room("product", most + -most % TILE, branches, self.features)
        for at in stages.split(most):
            count = len(at)
            weights = self.features.new_zeros(count + -count % TILE, len(self.features))
            for j, values in enumerate(self.ab):
                weights[:count, j : 2 * self.rows : 2] = values.index_select(0, at).mul_(self.scale)
            torch.mm(weights, self.features, out=product[: len(weights)])
            yield product[:count].view(-1, K, branches)


def _squares(rows: torch.Tensor) -> torch.Tensor:
    """(N, n) -> (N,), the sums of squares; on the CPU without the room for all of them."""
    return sum(row.square() for row in rows.T) if rows.device.type == "cpu" else rows.square().sum(1)


_kept = threading.local()


def _room(name: str, rows: int, columns: int, like: torch.Tensor) -> torch.Tensor:
    """Memory that this thread has used before, if it can: fresh memory costs as much as the work that is done in it."""
    room = getattr(_kept, name, None)
    if room is None or room.dtype != like.dtype or room.device != like.device or room.numel() < rows * columns:
        room = like.new_empty(rows * columns)
        setattr(_kept, name, room)
    return room[: rows * columns].view(rows, columns)


@lru_cache(maxsize=8)
def _features(labels: Labels, device: torch.device) -> torch.Tensor:
    """(2 rows, n): label entry j and its square less 1 in rows 2j and 2j + 1, for as many as there can be.

    In bf16 where that is fast: only the encoder computes metrics, so their rounding is no matter of agreement, and it
    costs no measurable efficiency.
    """
    branches = torch.arange(labels.distinct, device=device)
    table = labels(torch.cat([branches[0::2], branches[1::2]]), SPHERE_ROWS if labels.on_sphere else MAX_ROWS)
    dtype = torch.bfloat16 if has_fast_bf16(device) else table.dtype
    out = torch.empty(2 * len(table), table.shape[1], dtype=dtype, device=device)
    for j, row in enumerate(table):
        out[2 * j], out[2 * j + 1] = row, row**2 - 1
    return out


def _arriving(metric: np.ndarray, states: int) -> tuple[np.ndarray, np.ndarray]:
    """Metrics (..., n) as ``_Metrics`` has them -> those of branches 2w and of 2w + 1, (..., 1 or 2, 2^M / 2) by w.

    Where labels are opposed, the second half of the states w has those of the first, swapped.
    """
    half = max(states // 2, 1)
    metric = metric.reshape(*metric.shape[:-1], 2, -1, half)
    if metric.shape[-2] == states // half:
        return metric[..., 0, :, :], metric[..., 1, :, :]
    return metric[..., 0, :], metric[..., ::-1, 0, :]


class _Search(Protocol):
    """Viterbi's algorithm over stages whose metrics it knows: ``_OnCpu``, or on a CUDA device (viterbi_cuda.py)."""

    stretch: int  # stages of a long message that are decided on together
    overlap: int  # stages on each side of a cut between stretches that decide where the path passes it

    def anywhere(self, paths: int):
        """Values (K, 2^M) of paths that may begin in any state."""

    def only(self, states: np.ndarray):
        """Values (K, 2^M) of paths that begin in these states (K,)."""

    def walk(self, stages: np.ndarray, value):
        """Over stages (N, K), or (N, 1) where they are the same for all, from values: decisions, and values after them.

        decisions[:, i:j] are those of paths i to j.
        """

    def backward(self, stages: np.ndarray):
        """(2^M,): the best value of a path over these stages (N, 1), the last one first, by where it begins."""

    def likeliest(self, value, count: int) -> np.ndarray:
        """The states of the largest values (2^M,), in any order."""

    def trace(self, decisions, ends, lengths: Sequence[int]) -> list[np.ndarray]:
        """The bits, uint8, of the paths that after so many stages are in these states."""

    def by_groups(self, work: Callable[[np.ndarray], list], count: int, length: int) -> list:
        """What ``work`` makes of 0, ..., count - 1: of as many at a time as paths so long should be walked at once."""


def _search(metrics: _Metrics, M: int) -> _Search:
    device = metrics.features.device
    if device.type == "cuda" and M > 1:
        with contextlib.suppress(ImportError):
            from . import viterbi_cuda

            if viterbi_cuda.works(device):
                return viterbi_cuda.Search(metrics, M, device)
    return _OnCpu(metrics, M)


def _tail_biting(trellis: Trellis, search: _Search) -> np.ndarray:
    """The bits of the stages, (S,) uint8, along the best path from any of the likeliest registers back to itself."""
    M, S = trellis.memory, trellis.bits
    stages = np.arange(S)[:, None]
    # The likeliest starting registers, by the stages on both sides of the seam; then the best path from each to itself.
    window = min(S, WINDOW * max(M, 1))
    before = search.walk(stages[S - window :], search.anywhere(1))[1][0]
    seams = search.likeliest(before + search.backward(stages[:window][::-1]), trellis.seams)
    decisions, value = search.walk(stages, search.only(seams))
    best = int(value[np.arange(len(seams)), seams].argmax())
    return search.trace(decisions[:, best : best + 1], seams[best : best + 1], [S])[0]


def _in_stretches(trellis: Trellis, search: _Search) -> np.ndarray:
    """The bits of the stages of a long closed path, cut into stretches that are walked side by side.

    In which state the path is at a cut is decided first, by the stages on both sides of it: some tens of them, and what
    is further away hardly matters. The result does not depend on the number of threads.
    """
    pairs = -(-trellis.bits // (2 * search.stretch))  # an even number shares out better
    M, cuts = trellis.memory, np.linspace(0, trellis.bits, 2 * pairs + 1).astype(int)
    begins, lengths, overlap = cuts[:-1], np.diff(cuts), search.overlap

    def walk(begins, length, value):
        return search.walk((begins + np.arange(length)[:, None]) % trellis.bits, value)

    def around(group):
        decisions, value = walk(begins[group] - overlap, 2 * overlap, search.anywhere(len(group)))
        paths = search.trace(decisions, value.argmax(1), [2 * overlap] * len(group))
        return [int(path[overlap - M : overlap] @ 2 ** np.arange(M)) for path in paths]

    def between(group):
        decisions, _ = walk(begins[group], lengths[group].max(), search.only(states[group]))
        return search.trace(decisions, states[(group + 1) % len(states)], lengths[group])

    states = np.array(search.by_groups(around, len(begins), 2 * overlap))
    return np.concatenate(search.by_groups(between, len(begins), lengths.max()))


class _OnCpu:
    """``_Search`` in NumPy, by the cores of the machine. Decisions are packed bits, (S, K, 2^M / 8)."""

    def __init__(self, metrics: _Metrics, M: int):
        self.metrics, self.M, self.stretch, self.overlap = metrics, M, STRETCH, OVERLAP

    def anywhere(self, paths: int) -> np.ndarray:
        return np.zeros((paths, 2**self.M), np.int16)

    def only(self, states: np.ndarray) -> np.ndarray:
        return _only(states, self.M)

    def walk(self, stages: np.ndarray, value: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        paths = _Paths(value)
        decisions = np.concatenate([paths.extend(block) for block in self.metrics(stages)])
        return decisions, paths.off[:, None] + paths.value

    def backward(self, stages: np.ndarray) -> np.ndarray:
        value = np.zeros(2**self.M, np.int16)
        for block in self.metrics(stages):
            value = _backward(value, block)
        return value

    def likeliest(self, value: np.ndarray, count: int) -> np.ndarray:
        return np.argpartition(value, -count)[-count:]

    def trace(self, decisions: np.ndarray, ends: np.ndarray, lengths: Sequence[int]) -> list[np.ndarray]:
        return [_trace(decisions[:n, k], int(end), self.M) for k, (end, n) in enumerate(zip(ends, lengths))]

    def by_groups(self, work: Callable[[np.ndarray], list], count: int, length: int) -> list:
        def alone(group):
            torch.set_num_threads(1)  # others are walked by the other cores
            return work(group)

        cores = min(_cores(), count)
        groups = np.array_split(np.arange(count), cores * -(-count // (LANES * cores)))
        with all_threads():
            return list(chain.from_iterable(_threads().map(alone, groups)))


@contextlib.contextmanager
def all_threads():
    """In the end libraries use as many threads as before: some take it from all what one of them asks for itself."""
    threads = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _only(states: np.ndarray, M: int) -> np.ndarray:
    """Values (K, 2^M) for paths that begin in these states."""
    value = np.full((len(states), 2**M), NEVER, np.int16)
    value[np.arange(len(states)), states] = 0
    return value


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_cores())


def _cores() -> int:
    return min(cpu_count(), MOST_THREADS)


class _Paths:
    """The best paths into all states, from K sets of values (K, 2^M) int16, each of its own path: Viterbi's recursion.

    Operations are few and large, for threads wait for each other between them.
    """

    def __init__(self, value: np.ndarray):
        K, states = value.shape
        half = max(states // 2, 1)
        self.value, self.off = value.copy(), np.zeros(K, int)  # ``off`` is what was taken off the values, (K,)
        # Branch L starts in state L mod 2^M: even ones in even states, twice over (or all in the only state).
        self.origin = np.empty((2, K, 1, half), np.int16)
        self.ends = np.empty((2, K, states // half, half), np.int16)
        self.won = np.empty((0, K, states), bool)

    def extend(self, block: np.ndarray) -> np.ndarray:
        """By s stages with metrics (s, K, n), or (s, 1, n) where they are the same for all.

        Returns which of the branches 2w and 2w + 1 won: (s, K, 2^M / 8) bytes of packed bits.
        """
        if len(self.won) < len(block):
            self.won = np.empty((len(block), *self.value.shape), bool)
        even, odd = self.ends.reshape(2, *self.value.shape)
        for s, metrics in enumerate(zip(*_arriving(block, self.value.shape[1]))):
            self._split()
            for origin, metric, ends in zip(self.origin, metrics, self.ends):
                np.add(origin, metric, out=ends)
            np.greater(odd, even, out=self.won[s])
            np.maximum(even, odd, out=self.value)
            if s % EVERY == 0:
                top = self.value.max(1)
                np.subtract(self.value, top[:, None], out=self.value)
                self.off += top
        return np.packbits(self.won[: len(block)], -1, bitorder="little")

    def _split(self):
        """Values of even and of odd states -> ``origin``."""
        if self.value.shape[1] == 1:
            self.origin[:, :, 0] = self.value
        elif sys.byteorder == "little":  # several times faster, by pairs of values
            pairs = self.value.view(np.int32)
            np.copyto(self.origin[0, :, 0], pairs, casting="unsafe")
            np.right_shift(pairs, 16, out=self.origin[1, :, 0], casting="unsafe")
        else:
            self.origin[:, :, 0] = self.value.reshape(*self.origin.shape[1::2], 2).transpose(2, 0, 1)


def _backward(value, block):
    """value (2^M,): the largest metric of any path that begins in each state before the stages of this block.

    The last stage comes first in it.
    """
    for metrics in zip(*_arriving(block[:, 0], len(value))):
        ahead = np.stack(metrics) + value.reshape(metrics[0].shape)  # of branches 2w and 2w + 1
        value = ahead.max(1).T.flatten() if len(value) > 1 else ahead.max(0)[0]
        value -= value.max()
    return value


def _trace(decisions: np.ndarray, state: int, M: int) -> np.ndarray:
    """Follow the decisions (S, 2^M / 8) backwards from the final state: the bits of the stages, (S,) uint8."""
    bits = np.empty(len(decisions), np.uint8)
    for s in range(len(decisions) - 1, -1, -1):
        branch = 2 * state + (int(decisions[s, state >> 3]) >> (state & 7) & 1)
        bits[s], state = branch >> M, branch & (2**M - 1)
    return bits


def decode(trellis: Trellis, message: np.ndarray, filling: torch.Tensor) -> torch.Tensor:
    """zeta (dims,) float32 from the message, or from its beginning: stages not reached are taken from ``filling``."""
    M, S, n = trellis.memory, trellis.bits, len(message)
    if S == 0 or n < min(S, M + 1):
        return filling
    bits = np.concatenate([message.astype(np.int64), np.zeros(S - n, np.int64), message[:M].astype(np.int64)])
    branch = sum(bits[M - k : M - k + S] << (M - k) for k in range(M + 1))
    branch = torch.from_numpy(branch).to(filling.device, non_blocking=True)
    zeta = trellis.unfold(trellis.labels(branch, trellis.rows).T)
    if n < S:
        known = torch.arange(trellis.dims, device=filling.device) % S < n - M
        zeta = torch.where(known, zeta, filling)
    return zeta
