"""Pictures as patches that the network can see together: of one kind, in batches, in an order both sides know."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from codec.errors import CodecError
from ddpm.groups import grouped

SIDE = 64  # of the largest patch
BATCH_PIXELS = 1 << 16
MAX_PATCHES = 1 << 22
CODE = 0  # for T: the steps of the lossy code

Kind = tuple[int, int, int]  # height, width and coded channels of a patch


class Batch(NamedTuple):
    """Patches that are pushed together: their entry of the plan, their kind, and (n, 3) of picture, top, left."""

    entry: int
    kind: Kind
    where: np.ndarray


def cuts(length: int) -> list[int]:
    """Where a side is cut into lengths of at most SIDE, equal within a pixel; both ends included."""
    n = -(-length // SIDE)
    return [length * i // n for i in range(n + 1)]


def kinds(sizes, grey, steps: int) -> list[Kind]:
    """Of whole pictures of these sizes, (height, width) each, grey or not."""
    return [(h, w, 1 if g and steps == CODE else 3) for (h, w), g in zip(sizes, grey)]


def layout(pictures: Sequence[Kind], stored=()) -> list[tuple[Kind, np.ndarray]]:
    """All patches by kind, small ones first: [((height, width, channels), (n, 3) of picture, top, left), ...].

    stored: numbers of pictures that are not coded.
    """
    patches = (
        ((bottom - top, right - left, channels), (number, top, left))
        for number, (height, width, channels) in enumerate(pictures)
        if number not in stored
        for top, bottom in pairwise(cuts(height))
        for left, right in pairwise(cuts(width))
    )
    groups = grouped(patches, lambda patch: patch[0])
    order = sorted(groups, key=lambda kind: (kind[0] * kind[1], kind))
    return [(kind, np.array([where for _, where in groups[kind]], np.int32)) for kind in order]


def batches(pictures: Sequence[Kind], plan: Sequence[int], stored=()) -> list[Batch]:
    """One for each entry of the plan; ValueError if it is no plan for these pictures."""
    out, entries = [], iter(plan)
    for kind, where in layout(pictures, stored):
        at = 0
        while at < len(where):
            entry = next(entries, 0)
            n = 1 if entry < 0 else entry
            if not 0 < n <= min(largest(kind), len(where) - at):
                raise ValueError("no plan for these pictures")
            out.append(Batch(entry, kind, where[at : at + n]))
            at += n
    if next(entries, None) is not None:
        raise ValueError("no plan for these pictures")
    return out


def largest(kind: Kind) -> int:
    """The largest batch of patches of a kind, a power of two."""
    return 1 << (BATCH_PIXELS // (kind[0] * kind[1])).bit_length() - 1


def patch(array: np.ndarray, top: int, left: int, kind: Kind) -> np.ndarray:
    """(h, w, channels) of a picture (H, W, 3) or (H, W)."""
    cut = array[top : top + kind[0], left : left + kind[1]]
    return cut if cut.ndim == 3 else np.repeat(cut[..., None], kind[2], 2)


def check_count(sizes) -> None:
    """CodecError if an archive of pictures of these sizes would have too many patches."""
    if sum(-(-h // SIDE) * -(-w // SIDE) for h, w in sizes) > MAX_PATCHES:
        raise CodecError("too many pictures for one archive")
