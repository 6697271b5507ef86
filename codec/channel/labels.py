"""The labels of the trellis: what a branch puts into the dimensions of its stage.

Branch L = b 2^M + u is bit b in state u and leads to state L >> 1. Labels are shared Gaussians. Branches that leave one
state have opposed ones, h and -h, and so have branches that meet in one: as in good convolutional codes, what must be
told apart is as far apart as can be. Each pair (b, lowest bit of u) then shares an h, that of v = u >> 1, 2^(M - 1) of
them. Labels all drawn at random need a register one to two bits longer to be as good, so two to four times the time.

In a long register h is not drawn for each v. Its dimensions are in GROUPS, every so many-th, each with a table of but
2^TABLE labels. Group k looks up the lower bits of v, to which, but for the RUN lowest, 2^k times the upper ones are
added, in the field of 2^(TABLE - RUN) elements. Two different v have the same label in one group at most, since
multiples by different constants never meet. That is as good as labels all drawn, within what can be measured, and
metrics come from products with the tables alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch

from codec.randomness.streams import labels, sphere_labels

MAX_ROWS = 128  # labels have so many dimensions; longer stages are folded
SPHERE_ROWS = 64  # to so many, where labels lie on a sphere
TABLE = 10
GROUPS = 4
RUN = 5  # lowest bits of v, that are left alone
FIELD = 0b100101  # x^5 + x^2 + 1, irreducible
MEMORY = TABLE + TABLE - RUN + 1  # of the longest register


@dataclass(frozen=True)
class Labels:
    """Of a register of ``memory`` bits M <= MEMORY; on_sphere: the dimensions of each group have the norm that is the
    square root of their number."""

    memory: int
    on_sphere: bool = False

    @property
    def groups(self) -> int:
        return 1 if self.memory <= TABLE + 1 else GROUPS

    @property
    def size(self) -> int:
        """Labels in the table of a group."""
        return 1 << min(max(self.memory - 1, 0), TABLE)

    @property
    def offsets(self) -> np.ndarray:
        """(groups, 2^(M - 1) / size) int32, by the upper bits of v: what the lower are joined with, by exclusive or."""
        return _offsets(max(self.memory - 1 - TABLE, 0))[: self.groups]

    def places(self) -> torch.Tensor:
        """(groups, 2^(M - 1)) int64: where in the table of each group v looks."""
        lower = np.arange(self.size)
        return torch.from_numpy((self.offsets[:, :, None] ^ lower).reshape(self.groups, -1).astype(np.int64))

    def table(self, rows: int, device: torch.device) -> torch.Tensor:
        """(rows, size) float32, row j of group j mod ``groups``."""
        return _table(max(self.size.bit_length() - 2, 0), rows, self.groups if self.on_sphere else 0, device)

    def tables(self, rows: int, device: torch.device) -> list[torch.Tensor]:
        """Of each group, (2, its rows, size): of branches 2w and 2w + 1. Those of 2w + 2^M and 2w + 1 + 2^M are the
        same, swapped; where there are four, they are not."""
        table = self.table(rows, device)[:, : self.size]
        return [torch.stack([part, -part]) for part in (table[k :: self.groups] for k in range(self.groups))]

    def __call__(self, branch: torch.Tensor, rows: int) -> torch.Tensor:
        """(rows, n) float32, the labels of branches (n,) int64."""
        M, table = self.memory, self.table(rows, branch.device)
        b, u = branch >> M, branch & 2**M - 1
        v = u >> 1
        lower, upper = v & self.size - 1, v // self.size
        h = table.new_empty(rows, len(branch))
        for k, offset in enumerate(torch.from_numpy(self.offsets).to(branch.device).long()):
            h[k :: self.groups] = table[k :: self.groups].index_select(1, lower ^ offset[upper])
        return h.mul_(1 - 2 * (b ^ u & 1))


def product(a: int, b: int) -> int:
    """Of elements of the field."""
    out = 0
    while b:
        out ^= a if b & 1 else 0
        a, b = a << 1, b >> 1
        a ^= FIELD if a >> TABLE - RUN else 0
    return out


@lru_cache
def _offsets(bits: int) -> np.ndarray:
    return np.array([[product(1 << k, x) << RUN for x in range(1 << bits)] for k in range(GROUPS)], np.int32)


@lru_cache(maxsize=32)
def _table(memory: int, rows: int, groups: int, device: torch.device) -> torch.Tensor:
    return (sphere_labels(memory, rows, groups) if groups else labels(memory, rows)).to(device)
