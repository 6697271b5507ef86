"""What exact networks of common functions do between their sums, in few passes over maps.

Kernels on a CPU, torch elsewhere, the same to the last bit. Maps are (B, positions, C) float32; those that convolutions
read are as their kind wants them (convolution.py). docs/exact.md has the formulas.
"""

from __future__ import annotations

import numpy as np
import torch

from .kernels import F32, compiled, flat
from .tables import wide_silu_table

TINY = 2.0**-100
FINE = 16  # bits of maps that norms and attention round
UNIT, RANGE = 1 << 10, 32  # of SiLU: entries of its table in a unit; beyond it is x or 0


@compiled
def _scale(x, bits):
    """What makes integers of so many bits of x (n,), and their unit, float32; NaN if one is."""
    largest = np.int32(0)
    for v in x.view(np.int32):  # of floats without their sign, the order is that of integers
        largest = max(largest, v & np.int32(0x7FFFFFFF))
    size = max(F32(TINY), np.full(1, largest, np.int32).view(F32)[0])
    most = F32((1 << bits - 1) - 1)
    return most / size, size / most


@compiled
def _round(x, bits, zero, high, low):
    """x (n,) in integers of so many bits, where low is None, or in their halves; their unit."""
    scale, unit = _scale(x, bits)
    for i in range(len(x)):
        q = np.rint(x[i] * scale)
        if low is None:
            high[i] = q + zero
        else:
            high[i] = (np.int32(q) >> 8) + zero
            low[i] = np.int32(q) & 255
    return unit


@compiled
def _finish(sums, digit, units, unit, bias, out):
    """float32(digit high + low) (units unit) + bias, of sums (n, 2 O)."""
    outputs = out.shape[1]
    for i in range(len(out)):
        for k in range(outputs):
            v = F32(np.float64(sums[i, outputs + k]) + digit * np.float64(sums[i, k]))
            out[i, k] = v * (units[k] * unit) + bias[k]


@compiled
def _group_norm(x, groups, affine, eps, out):
    """Of x (n, C), with affine (weight, bias), (C,)."""
    channels = x.shape[1]
    scale, unit = _scale(x.reshape(-1), FINE)
    total, squares = np.zeros(channels), np.zeros(channels)
    for i in range(len(x)):
        for k in range(channels):
            q = np.float64(np.rint(x[i, k] * scale))
            total[k] += q
            squares[k] += q * q
    size = channels // groups
    count, wide = np.float64(len(x) * size), np.float64(unit)
    gain, shift = np.empty(channels, F32), np.empty(channels, F32)
    for g in range(groups):
        mean = total[g * size : (g + 1) * size].sum() / count
        square = squares[g * size : (g + 1) * size].sum() / count
        r = F32(1.0 / np.sqrt(square - mean * mean + eps / (wide * wide)))
        for k in range(g * size, (g + 1) * size):
            gain[k] = r * affine[0][k]
            shift[k] = affine[1][k] - F32(mean) * gain[k]
    for i in range(len(x)):
        for k in range(channels):
            out[i, k] = np.rint(x[i, k] * scale) * gain[k] + shift[k]


@compiled
def _silu(x, table, out):
    half = len(table) // 2
    most, unit = F32(half), F32(UNIT)
    for i in range(len(x)):
        v = x[i]
        if v <= F32(RANGE):
            out[i] = table[np.int32(max(np.rint(v * unit), -most)) + half]
        else:  # NaN as well
            out[i] = v


def on_cpu(x: torch.Tensor) -> bool:
    """Whether kernels can work on it."""
    return x.device.type == "cpu"


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
    if on_cpu(x):
        x, high = x.contiguous(), torch.empty(x.shape, dtype=dtype)
        low = torch.empty(x.shape, dtype=dtype) if halved else None
        lows = [None] * len(x) if low is None else low.view(len(x), -1).numpy()
        ones = zip(x.view(len(x), -1).numpy(), high.view(len(x), -1).numpy(), lows)
        units = [_round(one, bits, F32(zero), one_high, one_low) for one, one_high, one_low in ones]
        return high, low, torch.tensor(units)
    q, unit = rounded(x, bits)
    if not halved:
        return q.add_(zero).to(dtype), None, unit
    high = (q * (1 / 256)).floor_()
    return high.add(zero).to(dtype), q.sub_(high * 256).to(dtype), unit


def finished(sums: torch.Tensor, digit: int, units: torch.Tensor, unit: torch.Tensor, bias: torch.Tensor):
    """float32(digit high + low) (units unit) + bias: sums (B, n, 2 O), units and bias (O,), unit (B,) -> (B, n, O)."""
    if on_cpu(sums):
        out, of_output = torch.empty(*sums.shape[:2], len(units)), (units.numpy(), bias.numpy())
        for one, u, y in zip(sums.numpy(), unit.numpy(), out.numpy()):
            _finish(one, digit, of_output[0], u, of_output[1], y)
        return out
    high, low = sums.double().chunk(2, 2)
    return (high * digit).add_(low).float().mul_(units * of_each(unit, sums)).add_(bias)


def group_norm(x: torch.Tensor, groups: int, weight: torch.Tensor, bias: torch.Tensor, eps: float) -> torch.Tensor:
    """x (B, n, C), weight and bias (C,)."""
    if on_cpu(x):
        out, affine = torch.empty_like(x), (weight.numpy(), bias.numpy())
        for one, y in zip(x, out):
            _group_norm(flat(one), groups, affine, eps, flat(y))
        return out
    b, _, c = x.shape
    scale, unit = scales(x, FINE)
    q = (x * of_each(scale, x)).round_()
    wide = q.double()
    total, squares = (v.sum(1).view(b, groups, -1).sum(2) for v in (wide, wide * wide))
    count = torch.full_like(total, x.shape[1] * c // groups)  # a number CUDA would multiply with the reciprocal of
    mean, unit = total / count, unit.double()[:, None]
    r = 1 / (squares / count - mean * mean + torch.full_like(unit, eps) / (unit * unit)).sqrt()
    mean, r = (v.float().repeat_interleave(c // groups, 1) for v in (mean, r))
    gain = r * weight
    return q.mul_(gain[:, None]).add_((bias - mean * gain)[:, None])


def silu(x: torch.Tensor) -> torch.Tensor:
    """x / (1 + exp(-x)) of x, contiguous, to the nearest 2^-10; beyond the table, x or 0."""
    if on_cpu(x):
        out = torch.empty_like(x)
        _silu(x.view(-1).numpy(), wide_silu_table(), out.view(-1).numpy())
        return out
    most = RANGE * UNIT
    at = (x * UNIT).round_().clamp_(-most, most).add_(most).nan_to_num_()
    return torch.where(x <= RANGE, torch.from_numpy(wide_silu_table()).to(x.device).take(at.long()), x)
