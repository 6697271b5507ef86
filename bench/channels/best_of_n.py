"""The best of N = 2^bits shared candidates: minimal random coding with the largest weight in place of a drawn one.

Both sides draw N candidates from p; the index of one is sent, log2 N bits. Minimal random coding (Havasi et al. 2019,
algorithm 1) draws it in proportion to q/p (Theis & Yosri 2022 compare the kinds). The largest weight instead reaches
farther along delta for the same bits. Work and memory grow as N, so a message is cut into chunks of a few bits, each
for its share of the dimensions. As with the labels of the trellis, one table of candidates serves all chunks.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from .gaussian import CANDIDATES, CHOICE, join, linear_and_square, random, split

MOST_BITS = 16  # of a chunk
BLOCK = 1 << 12  # candidates that are compared at once


@dataclass(frozen=True, eq=False)
class BestOfN:
    """``bits`` bits for D = len(r) dimensions, in chunks of at most ``chunk`` bits.

    With ``sampled``, indices are drawn as in minimal random coding, by the encoder's own randomness.
    """

    r: np.ndarray
    bits: int
    chunk: int = 12
    sampled: bool = False
    seed: int = 0

    def __post_init__(self):
        if not 0 < self.chunk <= MOST_BITS:
            raise ValueError(f"chunks have 1 to {MOST_BITS} bits, not {self.chunk}")

    @property
    def sizes(self) -> list[int]:
        """Bits of each chunk, as even as they can be."""
        n = -(-self.bits // self.chunk)
        return [(self.bits + i) // n for i in range(n)]

    @property
    def candidates(self) -> np.ndarray:
        """(N, d) float32, for the longest chunk."""
        return _table(max(self.sizes), -(-len(self.r) // len(self.sizes)))

    def encode(self, delta: np.ndarray) -> np.ndarray:
        """The index of each chunk's candidate, (n,) int64."""
        n, table = len(self.sizes), self.candidates
        a, b = (_rows(split(v, self.r, n), table.shape[1]) for v in linear_and_square(delta, self.r))
        weights = np.empty((n, len(table)), np.float32)  # ln q/p of every candidate, less a constant
        for i in range(0, len(table), BLOCK):
            part = table[i : i + BLOCK].T
            weights[:, i : i + BLOCK] = a @ part
            if b.any():
                weights[:, i : i + BLOCK] += b @ part**2
        if self.sampled:
            weights += random(CHOICE, self.seed, 0).gumbel(size=weights.shape)
        return np.array([w[: 1 << bits].argmax() for w, bits in zip(weights, self.sizes)])

    def decode(self, indices: np.ndarray) -> np.ndarray:
        table, n = self.candidates, len(indices)
        counts = map(len, split(self.r, self.r, n))
        return join([table[k, :d] for k, d in zip(indices, counts)], self.r)

    def length(self, indices: np.ndarray) -> int:
        """All indices have as many bits as their chunk: nothing tells where they end, for both sides know."""
        return self.bits


@lru_cache(maxsize=2)
def _table(bits: int, dims: int) -> np.ndarray:
    """2^bits candidates from p, (N, dims) float32."""
    return random(CANDIDATES, bits, dims).standard_normal((1 << bits, dims), np.float32)


def _rows(chunks: list[np.ndarray], dims: int) -> np.ndarray:
    """(n, dims) float32: chunks, filled up with zeros."""
    return np.stack([np.pad(c, (0, dims - len(c))) for c in chunks]).astype(np.float32)
