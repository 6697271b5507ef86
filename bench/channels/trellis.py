"""The codec's trellis as a scheme: its best path, or a path drawn in proportion to q/p.

The drawn path is minimal random coding (Havasi et al. 2019) over 2^S candidates in time linear in S: weights of paths
are summed forwards, states are drawn backwards (forward filtering, backward sampling: Fruehwirth-Schnatter 1994). The
register where the closed path begins and ends is drawn first, by the stages on both sides of it, as the codec does.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from codec.channel.labels import Labels
from codec.channel.message import decode, encode
from codec.channel.search import WINDOW
from codec.channel.trellis import Trellis
from codec.randomness.streams import labels, sphere_labels

from .gaussian import CHOICE, linear_and_square, random

BLOCK = 64  # stages whose weights are held at once


@dataclass(frozen=True)
class RandomLabels(Labels):
    """All drawn at random, none opposed."""

    def __call__(self, branch: torch.Tensor, rows: int) -> torch.Tensor:
        return (sphere_labels if self.on_sphere else labels)(self.memory, rows)[:, branch]

    groups = 1

    @property
    def size(self) -> int:
        return max(2**self.memory // 2, 1)

    @property
    def offsets(self) -> np.ndarray:
        return np.zeros((1, 1), np.int32)

    def tables(self, rows: int, device: torch.device) -> list[torch.Tensor]:
        branches = torch.arange(2 ** (self.memory + 1), device=device)
        if self.memory == 0:
            return [torch.stack([self(branch[None], rows) for branch in branches])]
        branches = branches.view(2, -1, 2).permute(0, 2, 1)
        return [torch.stack([self(of_kind, rows) for of_kind in branches.reshape(4, -1)])]


@dataclass(frozen=True)
class Relabelled(Trellis):
    """A trellis with labels of a ``kind``."""

    kind: type[Labels] = Labels

    @property
    def labels(self) -> Labels:
        return self.kind(self.memory, self.on_sphere)


@dataclass(frozen=True, eq=False)
class TrellisScheme:
    """A message of ``bits`` bits for D = len(r) dimensions; with ``sampled``, of a path drawn, else of the best.

    ``labels``: those of the codec, or others of a register, which are called alike.
    """

    r: np.ndarray
    bits: int
    memory: int = 14
    sampled: bool = False
    seed: int = 0
    labels: type[Labels] = Labels

    @property
    def code(self) -> Trellis:
        return Relabelled(len(self.r), self.bits, self.memory, kind=self.labels)

    def encode(self, delta: np.ndarray) -> np.ndarray:
        """The message, (bits,) uint8 of 0 and 1."""
        a, b = (torch.from_numpy(v.astype(np.float32)) for v in linear_and_square(delta, self.r))
        return sample(self.code, a, b, self.seed) if self.sampled else encode(self.code, a, b)

    def decode(self, message: np.ndarray) -> np.ndarray:
        return decode(self.code, message, torch.zeros(len(self.r))).numpy()

    def length(self, message: np.ndarray) -> int:
        return len(message)


def sample(trellis: Trellis, a: torch.Tensor, b: torch.Tensor, seed: int) -> np.ndarray:
    """The message, (bits,) uint8, of a path drawn with probabilities in proportion to exp(a zeta + b zeta^2).

    Exact but for the seam, which ``WINDOW`` registers of stages on each side decide on.
    """
    M, S, rng = trellis.memory, trellis.bits, random(CHOICE, seed, 0)
    stages, window = np.arange(S), min(S, WINDOW * trellis.memory)
    before = np.ones(2**M)
    for weight in _weights(trellis, a, b, stages[S - window :]):
        before = _forward(before, weight)[0]
    after = np.ones(2**M)
    for weight in _weights(trellis, a, b, stages[:window][::-1]):
        after = (weight * np.repeat(after, 2)).reshape(2, -1).sum(0)
        after /= after.max()
    seam = int(rng.choice(2**M, p=before * after / (before @ after)))
    value = np.zeros(2**M)
    value[seam] = 1
    odd = np.empty((S, 2**M), np.float32)
    for s, weight in enumerate(_weights(trellis, a, b, stages)):
        value, odd[s] = _forward(value, weight)
    path, state = np.empty(S, np.uint8), seam
    for s in range(S - 1, -1, -1):
        branch = 2 * state + int(rng.random() < odd[s, state])
        path[s], state = branch >> M, branch & (2**M - 1)
    return np.concatenate([path[S - M :], path[: S - M]])


def _weights(trellis: Trellis, a: torch.Tensor, b: torch.Tensor, stages: np.ndarray) -> Iterator[np.ndarray]:
    """q/p of all branches of these stages, one stage after the other, (2^(M + 1),) with 1 for the likeliest."""
    table, a, b = trellis.table(a.device), trellis.fold(a), trellis.fold(b)
    squares = table**2 if b.any() else None
    for i in range(0, len(stages), BLOCK):
        part = stages[i : i + BLOCK].copy()
        metrics = a[part] @ table
        if squares is not None:
            metrics += b[part] @ squares
        yield from (metrics - metrics.amax(1, keepdim=True)).exp_().numpy()


def _forward(value: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sums over paths into each state, (2^M,), scaled; and what part of them came along branch 2w + 1 into w."""
    ends = (weight.reshape(2, -1) * value).reshape(-1, 2)
    total = ends.sum(1)
    odd = np.divide(ends[:, 1], total, out=np.zeros_like(total), where=total > 0)
    return total / total.max(), odd
