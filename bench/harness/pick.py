"""The pictures of a measurement."""

from __future__ import annotations

import numpy as np

from codec.errors import CodecError, as_mistakes
from ddpm.images.batches import middle
from ddpm.images.data import load_images


def load(source: str | None, tile: int | None = None) -> list[np.ndarray]:
    """All pictures (H, W, 3) of a source, as ``load_images`` has it; CodecError if there is none, or no picture."""
    if not source:
        raise CodecError("no pictures are named")
    with as_mistakes():
        return load_images(source, tile)


def draw(source: str, tile: int | None, images: int | None, crop: int | None = None, skip: int = 0) -> list[np.ndarray]:
    """So many pictures (H, W, 3) of a source at random, or all; the middle square of side ``crop`` or what there is.

    skip: those that come after so many.
    """
    every = load(source, tile)
    chosen = np.random.default_rng(0).permutation(len(every))[skip:][:images]
    if not len(chosen):
        raise CodecError(f"{source}: {len(every)} pictures, none after {skip}")
    return [every[i] if crop is None else middle(every[i], crop) for i in chosen]
