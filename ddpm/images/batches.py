"""Pictures in memory as a network takes them: those of one size together, so many at a time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ddpm.groups import grouped

from .pictures import is_grey


@dataclass(frozen=True)
class Batch:
    """Pictures x (B, 3, H, W) uint8, their numbers among all, and whether they are grey, where that counts."""

    numbers: list[int]
    x: torch.Tensor
    grey: bool = False

    def __len__(self) -> int:
        return len(self.numbers)


def alike(
    pictures: Sequence[np.ndarray], numbers: Iterable[int] | None = None, by_grey: bool = True
) -> list[tuple[bool, list[int]]]:
    """Those of one size together, and with ``by_grey`` all grey or none: (grey, numbers), as they are first seen.

    pictures: (H, W, 3) uint8. numbers: of those that count; by default all.
    """
    every = range(len(pictures)) if numbers is None else numbers
    groups = grouped(every, lambda i: (pictures[i].shape, by_grey and is_grey(pictures[i])))
    return [(grey, members) for (_, grey), members in groups.items()]


def parts(
    pictures: Sequence[np.ndarray], most: int, numbers: Iterable[int] | None = None, by_grey: bool = True
) -> list[tuple[bool, list[int]]]:
    """As ``alike``, cut into parts of at most ``most`` pixels; a larger picture is a part by itself."""
    out = []
    for grey, members in alike(pictures, numbers, by_grey):
        height, width = pictures[members[0]].shape[:2]
        size = max(1, most // (height * width))
        out += [(grey, members[k : k + size]) for k in range(0, len(members), size)]
    return out


def batches(
    pictures: Sequence[np.ndarray], most: int, numbers: Iterable[int] | None = None, by_grey: bool = True
) -> list[Batch]:
    """The parts as tensors."""
    return [
        Batch(members, stacked([pictures[i] for i in members]), grey)
        for grey, members in parts(pictures, most, numbers, by_grey)
    ]


def stacked(pictures: Sequence[np.ndarray]) -> torch.Tensor:
    """(H, W, C) uint8 of one size -> (B, C, H, W)."""
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)


def middle(picture: np.ndarray, side: int) -> np.ndarray:
    """The middle square of a picture (H, W, ...), or what there is of it."""
    top, left = (max(0, n - side) // 2 for n in picture.shape[:2])
    return picture[top : top + side, left : left + side]


def some(pictures: Sequence[np.ndarray], number: int | None, seed: int) -> list[np.ndarray]:
    """So many of them, drawn at random, in their order; all if there are no more, or of no number."""
    if number is None or number >= len(pictures):
        return list(pictures)
    chosen = np.random.default_rng(seed).permutation(len(pictures))[:number]
    return [pictures[i] for i in np.sort(chosen)]
