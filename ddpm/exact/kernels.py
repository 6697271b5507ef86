"""What an exact network does between its convolutions, each a single pass over memory. ``reference.py`` defines it.

Every operation on floats here is one that IEEE 754 rounds correctly (+, -, *, /, sqrt, rint), each by itself: no fused
multiply-add, no reordering, which is why none of this may be compiled with ``fastmath``. Sums are of integers. Maps are
(positions, C), of which a kernel works on those of ``part``, (first, last).

Maps that a convolution reads are stored as the kind of convolution at hand wants them (convolution.py): uint8 of q +
zero, or float32 of q; in two maps, if they are of 16 bits: q = 256 high + low, 0 <= low < 256, of which only the first
has a zero. ``limits`` are the least q, the greatest, and zero. Sums of 16 bits come in two as well. The second of such
pairs is None where 8 bits do.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import pairwise

import numpy as np
import torch

from ddpm.compiled import compiled

F32 = np.float32
FEW = 1024  # positions that are not worth another thread


def flat(x: torch.Tensor) -> np.ndarray:
    """(..., C) -> (positions, C), the same memory."""
    return x.view(-1, x.shape[-1]).numpy()


def flat_pair(high: torch.Tensor, low: torch.Tensor | None) -> tuple[np.ndarray, np.ndarray | None]:
    """Both, of which the second may be None."""
    return flat(high), None if low is None else flat(low)


def spread(kernel, x, *args) -> None:
    """kernel((first, last), x, *args) of all of x, a map or a pair, shared among as many threads as torch has."""
    one = x[0] if isinstance(x, tuple) else x
    threads = min(torch.get_num_threads(), max(1, one[..., 0].size // FEW))
    if threads == 1:
        kernel((0, len(one)), x, *args)
        return
    edges = [len(one) * i // threads for i in range(threads + 1)]
    first, *others = pairwise(edges)
    running = [_pool(threads - 1, os.getpid()).submit(kernel, part, x, *args) for part in others]
    kernel(first, x, *args)
    for other in running:
        other.result()


@lru_cache(maxsize=1)
def _pool(threads: int, process: int) -> ThreadPoolExecutor:
    """Of a process: one that was forked has none of the threads of its parent."""
    return ThreadPoolExecutor(threads)


@compiled
def _cut(v, bottom, top):
    return min(max(v, bottom), top)


@compiled
def _put(q, high, low, i, zero):
    """q (C,) int32 in row i of a map, or of two that have its halves."""
    zero = np.int32(zero)
    if low is None:
        for k in range(len(q)):
            high[i, k] = q[k] + zero
    else:
        for k in range(len(q)):
            high[i, k] = (q[k] >> 8) + zero
            low[i, k] = q[k] & 255


@compiled
def _get(high, low, i, sums):
    """Row i of a convolution's sums, or of those of two convolutions of halves: sums (C,) float32."""
    if low is None:
        for k in range(len(sums)):
            sums[k] = high[i, k]
    else:
        for k in range(len(sums)):
            sums[k] = F32(256) * high[i, k] + low[i, k]


@compiled
def norm(part, x, affine, limits, maps):
    """q = rint(n gain + shift), n = (x - mean) / deviation over the channels; x int16.

    affine: gain and shift, (C,) float32, and floor, float64, which is added to C^2 variance.
    """
    gain, shift, floor = affine
    least, most, zero = limits
    high, low = maps
    c = x.shape[1]
    row = np.empty(c, np.int32)
    for i in range(part[0], part[1]):
        total, coarse, fine = np.int32(0), np.int32(0), np.int32(0)
        for k in range(c):
            v = np.int32(x[i, k])
            total += v
            coarse += (v * v) >> 15  # squares in two, for sums of 32 bits
            fine += (v * v) & 32767
        squares = (np.int64(coarse) << 15) + np.int64(fine)
        spread = c * squares - np.int64(total) * np.int64(total)
        rate = F32(1.0 / np.sqrt(np.float64(spread) + floor))
        for k in range(c):
            n = F32(np.int32(c) * np.int32(x[i, k]) - total) * rate
            row[k] = np.int32(_cut(np.rint(n * gain[k] + shift[k]), least, most))
        _put(row, high, low, i, zero)


@compiled
def activate(part, sums, affine, limits, maps):
    """q = rint(table[rint(sum gain + shift)] scale); the table goes from -len/2 to len/2 - 1, and on as it ends.

    affine: gain, shift, scale, (C,) float32, and the table.
    """
    gain, shift, scale, table = affine
    least, most, zero = limits
    high, low = maps
    of_high, of_low = sums
    half = np.int32(len(table) // 2)
    bottom, top = F32(-half), F32(half - 1)
    c = of_high.shape[1]
    values, row = np.empty(c, F32), np.empty(c, np.int32)
    for i in range(part[0], part[1]):
        _get(of_high, of_low, i, values)
        # In loops of their own, all but looking up is done for many channels at once.
        for k in range(c):
            row[k] = np.int32(_cut(np.rint(values[k] * gain[k] + shift[k]), bottom, top)) + half
        for k in range(c):
            values[k] = table[np.uint32(row[k])]
        for k in range(c):
            row[k] = np.int32(_cut(np.rint(values[k] * scale[k]), least, most))
        _put(row, high, low, i, zero)


@compiled
def add(part, x, sums, affine, out):
    """out = x + rint(sum gain + shift), cut to int16."""
    gain, shift = affine
    of_high, of_low = sums
    bottom, top = F32(-32768), F32(32767)
    values = np.empty(x.shape[1], F32)
    for i in range(part[0], part[1]):
        _get(of_high, of_low, i, values)
        for k in range(len(values)):
            v = F32(x[i, k]) + np.rint(values[k] * gain[k] + shift[k])
            out[i, k] = np.int16(np.int32(_cut(v, bottom, top)))


@compiled
def halves(part, x, zero, maps):
    """x int16 in two maps."""
    high, low = maps
    row = np.empty(x.shape[1], np.int32)
    for i in range(part[0], part[1]):
        for k in range(len(row)):
            row[k] = x[i, k]
        _put(row, high, low, i, zero)


@compiled
def join(part, high, low, affine, out):
    """rint(v), cut to int16, of v as of ``read_out``."""
    gain, shift = affine
    bottom, top, outputs = F32(-32768), F32(32767), out.shape[1]
    for i in range(part[0], part[1]):
        for k in range(outputs):
            of_high = F32(128) * high[i, k] + high[i, outputs + k]
            of_low = F32(128) * low[i, k] + low[i, outputs + k]
            v = np.rint((F32(256) * of_high + of_low) * gain[k] + shift[k])
            out[i, k] = np.int16(min(max(v, bottom), top))


@compiled
def read_out(part, high, low, affine, out):
    """(256 (128 high + high') + (128 low + low')) gain + shift, float32.

    From the sums that convolutions make of both halves of 16-bit numbers with both parts of weights of 14 bits: high
    and low (positions, 2 O).
    """
    gain, shift = affine
    outputs = out.shape[1]
    for i in range(part[0], part[1]):
        for k in range(outputs):
            of_high = F32(128) * high[i, k] + high[i, outputs + k]
            of_low = F32(128) * low[i, k] + low[i, outputs + k]
            out[i, k] = (F32(256) * of_high + of_low) * gain[k] + shift[k]


@compiled
def features(part, high, low, z, inputs):
    """z (3, H, W) float32 as the network sees it, of the rows of ``part`` of p x p pixels.

    Of each pixel rint(z scale), the higher half in ``high`` (H / p, W / p, 15 p p), the lower half in ``low`` (H / p,
    W / p, 3 p p); and in ``high`` also the waves at 2^5 pi z and 2^6 pi z, there and a quarter of a period on. inputs:
    scale, one period of the wave, float32 of integers, and zero.
    """
    scale, wave, zero = inputs
    channels, height, width = z.shape
    p, period = height // high.shape[0], len(wave)
    bottom, top, unit, half = F32(-32768), F32(32767), F32(65536), F32(1 << 29)
    for i in range(part[0], part[1]):
        for j in range(width // p):
            for a in range(p):
                for b in range(p):
                    at = (a * p + b) * channels
                    for k in range(channels):
                        v = z[k, i * p + a, j * p + b]
                        q = np.int32(min(max(np.rint(v * scale), bottom), top))
                        high[i, j, 5 * at + k] = (q >> 8) + zero
                        low[i, j, at + k] = q & 255
                        phase = np.int32(min(max(np.rint(v * unit), -half), half))
                        for n in range(2):
                            turn = (phase << n) & (period - 1)
                            high[i, j, 5 * at + (1 + 2 * n) * channels + k] = wave[turn] + zero
                            turn = (turn + period // 4) & (period - 1)
                            high[i, j, 5 * at + (2 + 2 * n) * channels + k] = wave[turn] + zero
