"""The shared Gaussians: labels of the trellis, and noise for what no message speaks of."""

from __future__ import annotations

import zlib
from functools import lru_cache

import numpy as np
import torch

from codec.errors import CodecError

from .philox import LABELS, NOISE, on_grid, stream_of_gaussians

# CRC-32 of the first 8 rows of labels (little-endian float32) for registers of 0, 1, ... bits.
LABEL_CHECKS = (
    1352101409, 43583945, 524341179, 16441008, 3918081204, 2344278407, 3366898895, 3297720874, 897007755,
    752889256, 876294019, 2087181246, 3706349562, 1924321987, 1426036254, 3903551504, 2716041103,
)  # fmt: skip

_made: dict[int, torch.Tensor] = {}  # the labels of each register, as many rows as were ever asked for


def _label_rows(memory: int, rows: int) -> torch.Tensor:
    n = 2 ** (memory + 1)
    table = np.empty((rows, n), np.float32)
    for j in range(rows):
        table[j] = stream_of_gaussians(LABELS, memory, j, n)
    if zlib.crc32(table[:8].astype("<f4").tobytes()) != LABEL_CHECKS[memory]:
        raise CodecError("this machine's mathematics does not reproduce the shared random labels; nothing would decode")
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
def sphere_labels(memory: int, rows: int) -> torch.Tensor:
    """The labels, each scaled to the norm sqrt(rows) that Gaussians have on average, on the same grid.

    Squares and their sums are exact in float64, and square root and division are rounded alike everywhere.
    """
    table = labels(memory, rows).double().numpy()
    return torch.from_numpy(on_grid(table * (rows / (table**2).sum(0)) ** 0.5))


def shared_noise(seed: int, stream: int, n: int) -> torch.Tensor:
    """n shared Gaussians, float32, for what no message speaks of: z_T, and the part of a step that a cut file lacks."""
    return torch.from_numpy(stream_of_gaussians(NOISE, seed, stream, n))
