"""Gaussian channel simulation with a trellis: the heart of the codec.

The encoder knows a and b; the decoder shall hold zeta, distributed under p as N(0, 1), that looks drawn from q, where

    log q/p (zeta) = sum_i a_i zeta_i + b_i zeta_i^2 + const.

A message of S bits picks zeta from 2^S candidates made of shared random labels. Stage s of S carries the dimensions
s, s + S, s + 2S, ... Its label is chosen by M + 1 bits: bit s of the message and the M bits before it, held in a
register. The message closes on itself (a tail-biting code): before bit 0 come its last M bits, so no stage has fewer
candidates than another and no bit is spent on a start. All branch metrics are one matrix product; the best path is
found by the Viterbi algorithm. Decoding is a look-up.

A message travels as its last M bits, then the others in order; what a cut message holds decodes.

Trellis codes for channel simulation: Sriramu et al. 2024, appendix; wrap-around decoding of tail-biting codes: Shao
et al. 2003.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from .randomness import labels

MAX_ROWS = 128  # labels have so many dimensions; longer stages are folded
BLOCK = 128  # stages whose branch metrics are held at once
WINDOW = 6  # registers of stages on each side that decide on the seam
EFFORT = 2**16  # states times starting registers that the encoder tries


@dataclass(frozen=True)
class Trellis:
    """How ``bits`` bits choose ``dims`` Gaussians, 0 <= bits <= dims; the register has at most ``max_memory`` bits."""

    dims: int
    bits: int
    max_memory: int = 14

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
        """Dimensions of a label: those of the longest stage, or MAX_ROWS if that is folded."""
        return min(-(-self.dims // self.bits), MAX_ROWS)

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
        return labels(self.memory, self.rows).to(device)


def encode(trellis: Trellis, a: torch.Tensor, b: torch.Tensor) -> np.ndarray:
    """The message, (bits,) uint8 of 0 and 1, whose zeta has the largest a zeta + b zeta^2; a, b (dims,) float32."""
    M, S = trellis.memory, trellis.bits
    if S == 0:
        return np.zeros(0, np.uint8)
    table = trellis.table(a.device)
    weights = torch.cat([trellis.fold(a), trellis.fold(b)], 1)
    features = torch.cat([table, table**2])

    def blocks(first, last):
        for i in range(first, last, BLOCK):
            yield (weights[i : min(i + BLOCK, last)] @ features).cpu().numpy()

    # The likeliest starting registers, by the stages on both sides of the seam; then the best path from each to itself.
    window = min(S, WINDOW * M)
    before, after = np.zeros((1, 2**M), np.float32), np.zeros(2**M, np.float32)
    for block in blocks(S - window, S):
        before, _ = _forward(before, block)
    for block in reversed(list(blocks(0, window))):
        after = _backward(after, block)
    seams = np.argpartition(before[0] + after, -trellis.seams)[-trellis.seams :]
    value = np.full((len(seams), 2**M), -np.inf, np.float32)
    value[np.arange(len(seams)), seams] = 0
    decisions = []
    for block in blocks(0, S):
        value, chosen = _forward(value, block)
        decisions.append(chosen)
    best = int(value[np.arange(len(seams)), seams].argmax())
    path = _trace(np.concatenate([d[:, best] for d in decisions]), int(seams[best]), M)
    return np.concatenate([path[S - M :], path[: S - M]])


def aim(a: torch.Tensor, delta: torch.Tensor, zeta: torch.Tensor, noise: torch.Tensor) -> torch.Tensor | None:
    """A new target where bits in plenty let zeta overshoot delta, so that zeta looks drawn from q again; else None.

    Under q, a zeta has the mean |delta|^2. If the best path exceeds that by a factor f, part of its reach is to go to
    a random direction: with target a + t |a| u, u a unit vector of noise, it falls by sqrt(1 + t^2) = f.
    """
    f = float(a @ zeta) / max(float(delta @ delta), 1e-30)
    if f <= 1:
        return None
    return a + (f * f - 1) ** 0.5 * a.norm() / noise.norm() * noise


def _forward(value, block):
    """Viterbi's recursion over the metrics (s, 2^(M+1)) of s stages, from K sets of values (K, 2^M).

    Branches 2w and 2w + 1 meet in state w. Returns the new values and the decisions, which one won: (s, K, 2^M / 8)
    bytes of packed bits.
    """
    K, states = value.shape
    decisions = np.empty((len(block), K, -(-states // 8)), np.uint8)
    won = np.empty((K, states), bool)
    both = np.empty((K, 2, states), np.float32)
    even, odd = (both.reshape(K, states, 2)[..., h] for h in (0, 1))
    value = value.copy()
    for s, branch in enumerate(block):
        np.add(value[:, None], branch.reshape(1, 2, states), out=both)
        np.greater(odd, even, out=won)
        decisions[s] = np.packbits(won, 1, bitorder="little")
        np.maximum(even, odd, out=value)
    return value, decisions


def _backward(value, block):
    """value (2^M,): the largest metric of any path that begins in each state before the stages of this block."""
    for branch in block[::-1]:
        value = (branch + np.repeat(value, 2)).reshape(2, len(value)).max(0)
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
