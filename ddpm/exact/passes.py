"""Norms and SiLU in single passes over maps: kernels on a CPU, torch elsewhere, the same to the last bit.

Maps are (B, positions, C) float32.
"""

from __future__ import annotations

import numpy as np
import torch

from .kernels import F32, compiled, flat, spread
from .tables import wide_silu_table

UNIT, RANGE = 1 << 10, 32  # of SiLU: entries of its table in a unit; beyond it is x or 0


@compiled
def _moments(part, x, scale, total, squares):
    """Adds to total and squares (C,) float64 what positions have of q = rint(x scale)."""
    for i in range(part[0], part[1]):
        for k in range(x.shape[1]):
            q = np.float64(np.rint(x[i, k] * scale))
            total[k] += q
            squares[k] += q * q


@compiled
def _affine(part, x, scale, gain, shift, out):
    """rint(x scale) gain + shift."""
    for i in range(part[0], part[1]):
        for k in range(x.shape[1]):
            out[i, k] = np.rint(x[i, k] * scale) * gain[k] + shift[k]


@compiled
def _silu(part, x, table, out):
    half = len(table) // 2
    most, unit = F32(half), F32(UNIT)
    for i in range(part[0], part[1]):
        for k in range(x.shape[1]):
            v = x[i, k]
            if v <= F32(RANGE):
                out[i, k] = table[np.int32(max(np.rint(v * unit), -most)) + half]
            else:  # NaN as well
                out[i, k] = v


def on_cpu(x: torch.Tensor) -> bool:
    """Whether kernels can work on it."""
    return x.device.type == "cpu"


def moments(x: torch.Tensor, scale: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Sums of q = rint(x scale) and of its squares, (B, C) float64; scale is (B,)."""
    if not on_cpu(x):
        q = (x * scale[:, None, None]).round_().double()
        return q.sum(1), q.square_().sum(1)
    total, squares = torch.zeros(2, len(x), x.shape[2], dtype=torch.float64)
    for one, unit, *sums in zip(x, scale.numpy(), total.numpy(), squares.numpy()):
        _moments((0, len(one)), flat(one), unit, *sums)
    return total, squares


def affine(x: torch.Tensor, scale: torch.Tensor, gain: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
    """rint(x scale) gain + shift, with gain and shift (B, C)."""
    if not on_cpu(x):
        return (x * scale[:, None, None]).round_().mul_(gain[:, None]).add_(shift[:, None])
    out = torch.empty_like(x)
    for one, unit, g, h, y in zip(x, scale.numpy(), gain.numpy(), shift.numpy(), out):
        spread(_affine, flat(one), unit, g, h, flat(y))
    return out


def silu(x: torch.Tensor) -> torch.Tensor:
    """x / (1 + exp(-x)) of x to the nearest 2^-10; beyond the table, x or 0."""
    if not on_cpu(x):
        most = RANGE * UNIT
        at = (x * UNIT).round_().clamp_(-most, most).add_(most).nan_to_num_()
        return torch.where(x <= RANGE, torch.from_numpy(wide_silu_table()).to(x.device).take(at.long()), x)
    out = torch.empty_like(x)
    spread(_silu, flat(x), wide_silu_table(), flat(out))
    return out
