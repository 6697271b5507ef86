"""The figures of Ho et al. 2020 as rows of pictures, for any model.

grid         samples
progressive  a sample in each row; columns: x_hat over time, at the levels ``at`` (figure 6)
shared       in each row x_t at a level of ``at``, then samples that all start from it (figure 7)
interpolate  in each row the first of two pictures, mixtures at a level of ``at``, the second (figure 8)

What a figure has is known before torch is imported; ``draw`` imports it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

    from .reverse import Reverse

NUMBERS = {"grid": 16, "progressive": 8, "shared": 7, "interpolate": 9}
OVER_TIME = tuple(np.linspace(1, 0, 11).tolist())
FROZEN = (0.9, 0.75, 0.6, 0.45)


@dataclass(frozen=True)
class Figure:
    """One of NUMBERS. number: of samples, or of those in a row; at: how much of the chain is to come, 1 to 0."""

    kind: str
    number: int
    at: tuple[float, ...]

    @classmethod
    def usual(cls, kind: str, number: int | None = None, at: Sequence[float] = ()) -> Figure:
        """As asked for, or as in the paper."""
        return cls(kind, number or NUMBERS[kind], tuple(at) or (OVER_TIME if kind == "progressive" else FROZEN))

    @property
    def columns(self) -> int:
        return {
            "grid": math.ceil(math.sqrt(self.number)),
            "progressive": len(self.at),
            "shared": self.number + 1,
            "interpolate": self.number + 2,
        }[self.kind]

    @property
    def rows(self) -> int:
        return -(-self.pictures // self.columns)

    @property
    def pictures(self) -> int:
        if self.kind == "grid":
            return self.number
        return self.columns * (self.number if self.kind == "progressive" else len(self.at))

    def evaluations(self, gammas: Sequence[float] | np.ndarray) -> int:
        """Of the network at one image, on a chain of these levels."""
        from .sample import position

        if self.kind in ("grid", "progressive"):
            return self.number * len(gammas)
        to_come = [len(gammas) - position(gammas, a) for a in self.at]
        trunk = len(gammas) - min(to_come) + 1 if self.kind == "shared" else 0
        return trunk + self.number * sum(to_come)

    def draw(
        self,
        reverse: Reverse,
        gammas: Sequence[float] | np.ndarray,
        size: tuple[int, int],
        *,
        seed: int = 0,
        pair: torch.Tensor | None = None,
        method: str = "ancestral",
        batch: int = 64,
        progress=None,
    ) -> Iterator[np.ndarray]:
        """Its pictures, row by row, uint8 (H, W, 3) of a size (H, W), down the levels of a chain.

        pair: the two pictures of an interpolation, (2, 3, H, W) on [-1, 1]. method, batch, progress: see ``sample``.
        """
        from .sample import generate, interpolate, position, shared

        shape, device = (3, *size), reverse.model.device
        how = {"batch": batch, "progress": progress}
        if self.kind == "shared":
            yield from to_pictures(
                shared(reverse, gammas, shape, seed, self.at, number=self.number, device=device, **how)
            )
        elif self.kind == "interpolate":
            assert pair is not None
            weights = np.linspace(0, 1, self.number).tolist()
            rows = interpolate(reverse, gammas, pair.to(device), seed, self.at, weights=weights, method=method, **how)
            first, second = to_pictures(pair)
            for row in rows:
                yield from (first, *to_pictures(row), second)
        else:
            how |= {"keep": [position(gammas, a) for a in self.at] if self.kind == "progressive" else [-1]}
            numbers = range(self.number)
            for some in generate(reverse, gammas, shape, seed, numbers, method=method, device=device, **how):
                yield from to_pictures(some)


def to_pictures(x: torch.Tensor) -> np.ndarray:
    """(..., C, H, W) on [-1, 1] -> uint8 (N, H, W, C)."""
    from .likelihood import to_levels

    return to_levels(x.flatten(0, -4)).permute(0, 2, 3, 1).numpy()
