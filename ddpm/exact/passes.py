"""What exact networks of common functions do between their sums, in few passes over maps.

Torch, or on a CPU, once there is much to do, kernels (fast.py), the same to the last bit. Maps are (B, positions, C)
float32; those that convolutions read are as their kind wants them (convolution.py). docs/exact.md has the formulas.
"""

from __future__ import annotations

import numpy as np
import torch

from .roots import sqrt_
from .tables import FINE, TINY, WIDE_RANGE, WIDE_UNIT, wide_silu_table

ENOUGH, CALL = 200_000_000, 2_000  # values, after which kernels are worth loading; that a call counts for besides


class Work:
    """How much there was to do so far, in values of maps: kernels take a second to load, and may never be worth it."""

    def __init__(self):
        self.done = 0

    def is_for_kernels(self, x: torch.Tensor) -> bool:
        """Of x, a map that comes next."""
        self.done += x.numel() + CALL
        return self.done > ENOUGH and x.device.type == "cpu"


WORK = Work()


def scales(x: torch.Tensor, bits: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Of x (B, ...) for each picture: what makes integers of so many bits of it, and their unit, (B,)."""
    largest = x.abs().amax(tuple(range(1, x.ndim))).clamp_(min=TINY)
    most = torch.full_like(largest, (1 << bits - 1) - 1)
    return most / largest, largest / most


def of_each(values: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """(B,) -> (B, 1, ..., 1), to be multiplied with x."""
    return values.view(-1, *[1] * (x.ndim - 1))


def rounded(x: torch.Tensor, bits: int) -> tuple[torch.Tensor, torch.Tensor]:
    """x (B, ...) -> integers of so many bits, in float32, and the unit of each picture (B,): x ~ q unit."""
    scale, unit = scales(x, bits)
    return (x * of_each(scale, x)).round_(), unit


def read(x: torch.Tensor, bits: int, dtype: torch.dtype, zero: int, *, halved: bool):
    """``rounded``, as a convolution reads it: maps of that type, of which the first has that zero, and the unit.

    halved: in two maps, of the higher half of 16 bits and of the lower one; else the second is None.
    """
    if WORK.is_for_kernels(x):
        from . import fast

        x, high = x.contiguous(), torch.empty(x.shape, dtype=dtype)
        low = torch.empty(x.shape, dtype=dtype) if halved else None
        lows = [None] * len(x) if low is None else low.view(len(x), -1).numpy()
        ones = zip(x.view(len(x), -1).numpy(), high.view(len(x), -1).numpy(), lows)
        units = [fast.read(one, bits, np.float32(zero), one_high, one_low) for one, one_high, one_low in ones]
        return high, low, torch.tensor(units)
    q, unit = rounded(x, bits)
    if not halved:
        return q.add_(zero).to(dtype), None, unit
    high = (q * (1 / 256)).floor_()
    return high.add(zero).to(dtype), q.sub_(high * 256).to(dtype), unit


def finished(sums: torch.Tensor, digit: int, units: torch.Tensor, unit: torch.Tensor, bias: torch.Tensor):
    """float32(digit high + low) (units unit) + bias: sums (B, n, 2 O), units and bias (O,), unit (B,) -> (B, n, O)."""
    if WORK.is_for_kernels(sums):
        from . import fast

        out, of_output = torch.empty(*sums.shape[:2], len(units)), (units.numpy(), bias.numpy())
        for one, u, y in zip(sums.numpy(), unit.numpy(), out.numpy()):
            fast.finish(one, digit, of_output, u, y)
        return out
    high, low = sums.double().chunk(2, 2)
    return (high * digit).add_(low).float().mul_(units * of_each(unit, sums)).add_(bias)


def group_norm(x: torch.Tensor, groups: int, weight: torch.Tensor, bias: torch.Tensor, eps: float) -> torch.Tensor:
    """x (B, n, C), weight and bias (C,)."""
    if WORK.is_for_kernels(x):
        from . import fast

        out, affine = torch.empty_like(x), (weight.numpy(), bias.numpy())
        for one, y in zip(x, out):
            fast.group_norm(one.numpy(), groups, affine, eps, y.numpy())
        return out
    b, _, c = x.shape
    scale, unit = scales(x, FINE)
    q = (x * of_each(scale, x)).round_()
    wide = q.double()
    total, squares = (v.sum(1).view(b, groups, -1).sum(2) for v in (wide, wide * wide))
    count = torch.full_like(total, x.shape[1] * c // groups)  # a number CUDA would multiply with the reciprocal of
    mean, unit = total / count, unit.double()[:, None]
    r = 1 / sqrt_(squares / count - mean * mean + torch.full_like(unit, eps) / (unit * unit))
    mean, r = (v.float().repeat_interleave(c // groups, 1) for v in (mean, r))
    gain = r * weight
    return q.mul_(gain[:, None]).add_((bias - mean * gain)[:, None])


def silu(x: torch.Tensor) -> torch.Tensor:
    """x / (1 + exp(-x)) of x, contiguous, to the nearest 2^-10; beyond the table, x or 0."""
    if WORK.is_for_kernels(x):
        from . import fast

        out = torch.empty_like(x)
        fast.silu(x.view(-1).numpy(), wide_silu_table(), out.view(-1).numpy())
        return out
    most = WIDE_RANGE * WIDE_UNIT
    at = (x * WIDE_UNIT).round_().clamp_(-most, most).add_(most).nan_to_num_()
    return torch.where(x <= WIDE_RANGE, torch.from_numpy(wide_silu_table()).to(x.device).take(at.long()), x)
