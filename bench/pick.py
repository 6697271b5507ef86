"""The pictures of a measurement."""

from __future__ import annotations

import numpy as np

from codec.pictures import is_grey
from ddpm.data import load_images


def draw(source: str, tile: int | None, images: int, seed: int = 0) -> list[np.ndarray]:
    """So many pictures (H, W, 3) of a source at random, or all."""
    every = load_images(source, tile)
    return [every[i] for i in np.random.default_rng(seed).permutation(len(every))[:images]]


def alike(pictures: list[np.ndarray]) -> list[tuple[bool, list[int]]]:
    """Those that can be coded together, of one size and all grey or none: (grey, indices)."""
    groups: dict[tuple, list[int]] = {}
    for i, p in enumerate(pictures):
        groups.setdefault((p.shape, is_grey(p)), []).append(i)
    return [(grey, members) for (_, grey), members in groups.items()]
