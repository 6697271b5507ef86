"""passes.py as kernels for a CPU, each a single pass over a map, or two; the same to the last bit.

As in kernels.py every operation rounds by itself.
"""

from __future__ import annotations

import numpy as np

from ddpm.compiled import compiled

from .kernels import F32
from .tables import FINE, TINY, WIDE_RANGE, WIDE_UNIT


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
def read(x, bits, zero, high, low):
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
def finish(sums, digit, of_output, unit, out):
    """float32(digit high + low) (units unit) + bias, of sums (n, 2 O); of_output: units and bias (O,)."""
    units, bias = of_output
    outputs = out.shape[1]
    for i in range(len(out)):
        for k in range(outputs):
            v = F32(np.float64(sums[i, outputs + k]) + digit * np.float64(sums[i, k]))
            out[i, k] = v * (units[k] * unit) + bias[k]


@compiled
def group_norm(x, groups, affine, eps, out):
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
def silu(x, table, out):
    half = len(table) // 2
    most, unit = F32(half), F32(WIDE_UNIT)
    for i in range(len(x)):
        v = x[i]
        if v <= F32(WIDE_RANGE):
            out[i] = table[np.int32(max(np.rint(v * unit), -most)) + half]
        else:  # NaN as well
            out[i] = v
