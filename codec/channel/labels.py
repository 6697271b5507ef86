"""The labels of the trellis: what a branch puts into the dimensions of its stage.

Branch L = b 2^M + u is bit b in state u and leads to state L >> 1. Labels are shared Gaussians. Branches
that leave one state have opposed ones, h and -h, and so have branches that meet in one: as in good convolutional
codes, what must be told apart is as far apart as can be. Each pair (b, lowest bit of u) then shares an
h, so there are 2^(M - 1) of them, those of a register two bits shorter. Labels all drawn at random need a register one
to two bits longer to be as good, so two to four times the time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch

from codec.randomness.streams import labels, sphere_labels

MAX_ROWS = 128  # labels have so many dimensions; longer stages are folded
SPHERE_ROWS = 64  # to so many, where labels lie on a sphere


@dataclass(frozen=True)
class Labels:
    """Of a register of ``memory`` bits M; on_sphere: each of norm sqrt(rows)."""

    memory: int
    on_sphere: bool = False

    def __call__(self, branch: torch.Tensor, rows: int) -> torch.Tensor:
        """(rows, n) float32, the labels of branches (n,) int64."""
        M, make = self.memory, sphere_labels if self.on_sphere else labels
        b, u = branch >> M, branch & 2**M - 1
        h = _table(make, max(M - 2, 0), rows, branch.device)[:, u >> 1]
        return h.mul_(1 - 2 * (b ^ u & 1))

    @property
    def distinct(self) -> int:
        """So many branches 0, 1, ... tell the labels of all: the others swap 2w and 2w + 1."""
        return max(2**self.memory, 2)


def _table(make: Callable[[int, int], torch.Tensor], memory: int, rows: int, device: torch.device) -> torch.Tensor:
    return make(memory, rows) if device.type == "cpu" else _copied(make, memory, rows, device)


@lru_cache(maxsize=32)
def _copied(make: Callable[[int, int], torch.Tensor], memory: int, rows: int, device: torch.device) -> torch.Tensor:
    return make(memory, rows).to(device)
