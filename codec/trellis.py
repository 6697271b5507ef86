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

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np
import torch

from ddpm.machine import cpu_count, has_fast_bf16

from .randomness import labels, sphere_labels

MAX_ROWS = 128  # labels have so many dimensions; longer stages are folded
SPHERE_ROWS = 64  # to so many, where labels on a sphere are used for them
BLOCK = 512  # stages whose branch metrics are held at once
WINDOW = 6  # registers of stages on each side that decide on the seam
EFFORT = 2**16  # states times starting registers that the encoder tries
STRETCH = 2048  # stages of a long message that are decided on together
LANES = 8  # stretches that are walked at once, or one for each core if it has more
OVERLAP = 128  # stages on each side of a stretch that are looked at as well


@dataclass(frozen=True)
class Trellis:
    """How ``bits`` bits choose ``dims`` Gaussians, 0 <= bits <= dims; the register has at most ``max_memory`` bits."""

    dims: int
    bits: int
    max_memory: int = 14
    sphere: bool = False  # labels of folded stages

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

    def fold(self, values: torch.Tensor) -> torch.Tensor:
        """(dims,) -> (bits, rows): the dimensions of each stage, summed over those that share a label entry."""
        depth = -(-self.dims // self.bits)
        depth += -depth % self.rows
        padded = torch.nn.functional.pad(values, (0, depth * self.bits - self.dims))
        return padded.view(-1, self.rows, self.bits).sum(0).T

    def unfold(self, chosen: torch.Tensor) -> torch.Tensor:
        """(bits, rows) label entries -> (dims,), the adjoint of ``fold``."""
        repeats = -(-self.dims // (self.rows * self.bits))
        return chosen.T.reshape(-1).repeat(repeats)[: self.dims]

    def table(self, device) -> torch.Tensor:
        """(rows, 2^(M + 1)): column L labels the branch L = b 2^M + u, bit b in state u, which leads to L >> 1."""
        make = sphere_labels if self.on_sphere else labels
        return make(self.memory, self.rows).to(device)


def encode(trellis: Trellis, a: torch.Tensor, b: torch.Tensor) -> np.ndarray:
    """The message, (bits,) uint8 of 0 and 1, whose zeta has the largest a zeta + b zeta^2; a, b (dims,) float32."""
    M, S = trellis.memory, trellis.bits
    if S == 0:
        return np.zeros(0, np.uint8)
    path = (_tail_biting if S < 2 * STRETCH else _in_stretches)(trellis, _Metrics(trellis, a, b))
    return np.concatenate([path[S - M :], path[: S - M]])


class _Metrics:
    """stages (slice or indices) -> their branch metrics, (stages, 2^(M + 1)), valid until the next call.

    In float32, or in bf16 as uint16, to be widened where they are used: most of the time goes into moving them.

    Branches 0, 2, 4, ... come first, then 1, 3, 5, ...: 2w and 2w + 1 meet in state w.
    """

    def __init__(self, trellis: Trellis, a: torch.Tensor, b: torch.Tensor):
        self.features = _features(trellis.memory, trellis.on_sphere, a.device)
        width = 2 * trellis.rows + -2 * trellis.rows % 64  # other widths can be three times slower
        self.features = self.features[:width]
        self.weights = self.features.new_zeros(trellis.bits, width)
        for i, values in enumerate((a, b)):
            self.weights[:, i : 2 * trellis.rows : 2] = trellis.fold(values)
        self.product = self.weights.new_empty(0)

    def __call__(self, stages) -> np.ndarray:
        weights = self.weights[stages]
        if len(self.product) < len(weights):  # fresh memory costs as much as the product itself
            self.product = weights.new_empty(len(weights), self.features.shape[1])
        product = torch.mm(weights, self.features, out=self.product[: len(weights)]).cpu()
        return product.view(torch.uint16).numpy() if product.dtype == torch.bfloat16 else product.numpy()


def _widened(metrics: np.ndarray, room: np.ndarray) -> np.ndarray:
    """float32 metrics, in ``room`` if they have to be made from bf16 ones, which are the upper halves of float32."""
    if metrics.dtype == np.float32:
        return metrics
    np.left_shift(metrics, 16, out=room.view(np.uint32), dtype=np.uint32)
    return room


@lru_cache(maxsize=8)
def _features(memory: int, on_sphere: bool, device: torch.device) -> torch.Tensor:
    """(2 rows, 2^(M + 1)): label entry j and its square in rows 2j and 2j + 1, for as many entries as there can be.

    In bf16 where that is fast: only the encoder computes metrics, so their rounding is no matter of agreement, and it
    costs no measurable efficiency.
    """
    table = (sphere_labels if on_sphere else labels)(memory, SPHERE_ROWS if on_sphere else MAX_ROWS)
    dtype = torch.bfloat16 if has_fast_bf16(device) else table.dtype
    out = torch.empty(2 * len(table), table.shape[1], dtype=dtype, device=device)
    for j, row in enumerate(table.to(device)):
        row = torch.cat([row[0::2], row[1::2]])
        out[2 * j], out[2 * j + 1] = row, row**2
    return out


def _tail_biting(trellis: Trellis, metrics: _Metrics) -> np.ndarray:
    """The bits of the stages, (S,) uint8, along the best path from any of the likeliest registers back to itself."""
    M, S = trellis.memory, trellis.bits

    def blocks(first, last):
        return [slice(i, min(i + BLOCK, last)) for i in range(first, last, BLOCK)]

    # The likeliest starting registers, by the stages on both sides of the seam; then the best path from each to itself.
    window = min(S, WINDOW * M)
    before, after = np.zeros((1, 2**M), np.float32), np.zeros(2**M, np.float32)
    for block in blocks(S - window, S):
        before, _ = _forward(before, metrics(block))
    for block in reversed(blocks(0, window)):
        after = _backward(after, metrics(block))
    seams = np.argpartition(before[0] + after, -trellis.seams)[-trellis.seams :]
    value = np.full((len(seams), 2**M), -np.inf, np.float32)
    value[np.arange(len(seams)), seams] = 0
    decisions = []
    for block in blocks(0, S):
        value, chosen = _forward(value, metrics(block))
        decisions.append(chosen)
    best = int(value[np.arange(len(seams)), seams].argmax())
    return _trace(np.concatenate([d[:, best] for d in decisions]), int(seams[best]), M)


def _in_stretches(trellis: Trellis, metrics: _Metrics) -> np.ndarray:
    """The bits of the stages of a long closed path, cut into stretches that are walked side by side.

    Some tens of stages beyond its ends a stretch no longer feels where it began, so neighbours agree at the cut (and if
    they did not, a few stages would be less than optimal). The result does not depend on the number of threads.
    """
    M, S = trellis.memory, trellis.bits
    ends = np.linspace(0, S, -(-S // STRETCH) + 1).astype(int)
    length = int(np.diff(ends).max()) + 2 * OVERLAP
    path = []
    stretches = np.arange(len(ends) - 1)
    for group in np.array_split(stretches, -(-len(stretches) // max(LANES, cpu_count()))):
        lanes = (ends[group, None] - OVERLAP + np.arange(length)) % S
        parts = np.array_split(np.arange(len(lanes)), min(len(lanes), cpu_count()))  # a thread's lanes
        values, decisions = [np.zeros((len(part), 2**M), np.float32) for part in parts], [[] for _ in parts]
        step = -(-BLOCK // len(lanes))
        for j in range(0, length, step):
            stages = lanes[:, j : j + step]
            branches = metrics(stages.ravel()).reshape(*stages.shape, -1).transpose(1, 0, 2)
            shares = [branches[:, part[0] : part[-1] + 1] for part in parts]
            for k, done in enumerate(_threads().map(_forward, values, shares)):
                values[k] = done[0]
                decisions[k].append(done[1])
        for value, chosen, part in zip(values, decisions, parts):
            chosen = np.concatenate(chosen)
            for k, i in enumerate(group[part]):
                whole = _trace(chosen[:, k], int(value[k].argmax()), M)
                path.append(whole[OVERLAP : OVERLAP + ends[i + 1] - ends[i]])
    return np.concatenate(path)


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(cpu_count())


def _forward(value, block):
    """Viterbi's recursion over s stages, from K sets of values (K, 2^M), each of its own path.

    block: the metrics, (s, 2^(M + 1)) of all, or (s, K, 2^(M + 1)) of each. Returns the new values and the decisions,
    which of the branches 2w and 2w + 1 won: (s, K, 2^M / 8) bytes of packed bits.
    """
    K, states = value.shape
    decisions = np.empty((len(block), K, -(-states // 8)), np.uint8)
    won = np.empty((K, states), bool)
    value, even, odd = value.copy(), np.empty_like(value), np.empty_like(value)
    # Branch L starts in state L mod 2^M: even ones in even states, twice over (or all in the only state).
    origins = [value.reshape(K, 1, -1, 2)[..., h] if states > 1 else value[:, None] for h in (0, 1)]
    ends = [e.reshape(K, min(states, 2), -1) for e in (even, odd)]
    halves = block.reshape(len(block), -1, 2, *ends[0].shape[1:])
    room = np.empty(halves.shape[1:], np.float32)
    for s, metric in enumerate(halves):
        metric = _widened(metric, room)
        for half, (origin, end) in enumerate(zip(origins, ends)):
            np.add(np.ascontiguousarray(origin), metric[:, half], out=end)
        np.greater(odd, even, out=won)
        decisions[s] = np.packbits(won, 1, bitorder="little")
        np.maximum(even, odd, out=value)
    return value, decisions


def _backward(value, block):
    """value (2^M,): the largest metric of any path that begins in each state before the stages of this block."""
    room = np.empty(block.shape[1:], np.float32)
    for branch in block[::-1]:
        ahead = _widened(branch, room).reshape(2, -1) + value  # of branches 2w and 2w + 1
        value = ahead.reshape(2, 2, -1).max(1).T.flatten() if len(value) > 1 else ahead.max(0)
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
    zeta = trellis.unfold(trellis.table(filling.device)[:, torch.from_numpy(branch).to(filling.device)].T)
    if n < S:
        known = torch.arange(trellis.dims, device=filling.device) % S < n - M
        zeta = torch.where(known, zeta, filling)
    return zeta
