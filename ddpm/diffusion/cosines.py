"""Cosines over blocks of pixels and over the three colours: coordinates in which pictures are nearly uncorrelated.

The transform is orthonormal, so noise of one variance is that in both, and so are squared errors. Coordinates of about
the same frequency make a band: RINGS of them for each of three directions of colour, grey, red - blue and green.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch

from .bands import COLOURS, RINGS, rings


@lru_cache
def cosines(n: int) -> torch.Tensor:
    """(n, n) float64: row k is the k-th orthonormal cosine (DCT-II)."""
    k = np.arange(n)
    matrix = np.sqrt((1 + (k > 0)) / n)[:, None] * np.cos(np.pi * k[:, None] * (2 * k + 1) / (2 * n))
    return torch.from_numpy(matrix)


def coordinates(x: torch.Tensor, block: int) -> torch.Tensor:
    """(B, 3, H, W) -> coordinates, of the same shape: each lies where its block does. At the right and lower edges a
    smaller block takes what is left."""
    return _blocks(torch.einsum("ck,bkhw->bchw", cosines(COLOURS).to(x), x), block, cosines)


def picture(z: torch.Tensor, block: int) -> torch.Tensor:
    """The inverse, and the adjoint, of ``coordinates``."""
    return torch.einsum("ck,bchw->bkhw", cosines(COLOURS).to(z), _blocks(z, block, lambda n: cosines(n).T))


def _blocks(values: torch.Tensor, block: int, matrix) -> torch.Tensor:
    for _ in range(2):
        values = along(values, block, matrix).transpose(2, 3)
    return values


def along(values: torch.Tensor, block: int, matrix) -> torch.Tensor:
    """matrix(n) (n, n) applied to each run of n = ``block`` values of the last axis, and to the shorter rest."""
    rest = values.shape[-1] % block
    whole, rest = values.split([values.shape[-1] - rest, rest], -1)
    parts = []
    if whole.shape[-1]:
        parts.append((whole.unflatten(-1, (-1, block)) @ matrix(block).T.to(values, non_blocking=True)).flatten(-2))
    if rest.shape[-1]:
        parts.append(rest @ matrix(rest.shape[-1]).T.to(values, non_blocking=True))
    return torch.cat(parts, -1) if len(parts) > 1 else parts[0]


@lru_cache(maxsize=8)
def band_of(block: int, size: tuple[int, int], colours: int = COLOURS) -> torch.Tensor:
    """(colours, H, W) uint8: the band of each coordinate, colour * RINGS + ring."""
    return torch.from_numpy(np.arange(colours, dtype=np.uint8)[:, None, None] * RINGS + rings(block, size))
