"""The shared Gaussians: labels of the trellis, and noise for what no message speaks of."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch

from .philox import LABELS, NOISE, on_grid, stream_of_gaussians

_made: dict[int, torch.Tensor] = {}  # the labels of each register, as many rows as were ever asked for


def _label_rows(memory: int, rows: int) -> torch.Tensor:
    n = 2 ** (memory + 1)
    table = np.empty((rows, n), np.float32)
    for j in range(rows):
        table[j] = stream_of_gaussians(LABELS, memory, j, n)
    return torch.from_numpy(table)


def labels(memory: int, rows: int) -> torch.Tensor:
    """(rows, 2^(memory + 1)) float32: row j holds dimension j of the label of every branch of the trellis.

    A row does not depend on how many are asked for. Rows are made in powers of two and kept.
    """
    table = _made.get(memory)
    if table is None or len(table) < rows:
        table = _made[memory] = _label_rows(memory, max(8, 1 << (rows - 1).bit_length()))
    return table[:rows]


@lru_cache(maxsize=8)
def sphere_labels(memory: int, rows: int, groups: int = 1) -> torch.Tensor:
    """The labels, each scaled to the norm sqrt(rows) that Gaussians have on average, on the same grid; where rows are
    in groups (every so many-th), each by itself.

    Squares and their sums are exact in float64, and square root and division are rounded alike everywhere.
    """
    table = labels(memory, rows).double().numpy().copy()
    for part in (table[k::groups] for k in range(groups)):
        part *= np.sqrt(len(part) / (part**2).sum(0))
    return torch.from_numpy(on_grid(table))


def shared_noise(seed: int, stream: int, n: int) -> torch.Tensor:
    """n shared Gaussians, float32, for what no message speaks of: z_T, and the part of a step that a cut file lacks."""
    return torch.from_numpy(stream_of_gaussians(NOISE, seed, stream, n))
