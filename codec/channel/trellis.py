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

Trellis codes for channel simulation: Sriramu et al. 2024, appendix.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import torch

from .labels import MAX_ROWS, SPHERE_ROWS, Labels

CHUNK = 1 << 20  # dimensions; more are folded a part at a time
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
        """Dimensions of a label: those of the longest stage, or fewer if that is folded."""
        longest = -(-self.dims // self.bits)
        return longest if longest <= MAX_ROWS else SPHERE_ROWS

    @property
    def on_sphere(self) -> bool:
        """Whether stages are folded; their labels then have one norm."""
        return self.rows * self.bits < self.dims

    def fold(self, values: Values) -> torch.Tensor:
        """(dims,) -> (bits, rows): the dimensions of each stage, summed over those that share a label entry."""
        period = self.rows * self.bits
        most = CHUNK // period * period or CHUNK
        edges = {*range(0, self.dims, most), *range(0, self.dims, max(most, period)), self.dims}
        total = values[:0].new_zeros(period)
        for i, j in pairwise(sorted(edges)):
            part = values[i:j]
            if j - i > period:
                part = torch.nn.functional.pad(part, (0, -len(part) % period)).view(-1, period).sum(0)
            total[i % period :][: len(part)] += part
        return total.view(self.rows, self.bits).T

    def unfold(self, chosen: torch.Tensor) -> torch.Tensor:
        """(bits, rows) label entries -> (dims,), the adjoint of ``fold``."""
        repeats = -(-self.dims // (self.rows * self.bits))
        return chosen.T.reshape(-1).repeat(repeats)[: self.dims]

    @property
    def labels(self) -> Labels:
        return Labels(self.memory, self.on_sphere)

    def table(self, device) -> torch.Tensor:
        """(rows, 2^(M + 1)): column L labels the branch L."""
        return self.labels(torch.arange(2 ** (self.memory + 1), device=device), self.rows)


class Values(Protocol):
    """(dims,) float32: a tensor, or what makes its parts as they are asked for."""

    def __getitem__(self, part: slice) -> torch.Tensor: ...
