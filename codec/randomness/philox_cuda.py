"""The words of philox.py made on a CUDA device: faster than to make them on the CPU and to send them there."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
import triton
import triton.language as tl

from .philox import words

BLOCK = 256  # counters for each block of threads; each counter gives four words


@triton.jit(do_not_specialize=["key0", "key1", "n"])
def _philox(out, key0, key1, n, BLOCK: tl.constexpr):
    """Philox4x64-10: out (n,) int64."""
    j = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    zero = (j * 0).to(tl.uint64)
    c0, c1, c2, c3 = (j + 1).to(tl.uint64), zero, zero, zero  # NumPy counts up before it draws
    k0, k1 = zero + key0.to(tl.uint64), zero + key1.to(tl.uint64)
    m0, m1 = zero + 0xD2E7470EE14C6C93, zero + 0xCA5A826395121157
    for _ in tl.static_range(10):
        high0, low0, high1, low1 = tl.umulhi(m0, c0), m0 * c0, tl.umulhi(m1, c2), m1 * c2
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0 += 0x9E3779B97F4A7C15
        k1 += 0xBB67AE8584CAA73B
    at = 4 * j
    tl.store(out + at, c0.to(tl.int64, bitcast=True), at < n)
    tl.store(out + at + 1, c1.to(tl.int64, bitcast=True), at + 1 < n)
    tl.store(out + at + 2, c2.to(tl.int64, bitcast=True), at + 2 < n)
    tl.store(out + at + 3, c3.to(tl.int64, bitcast=True), at + 3 < n)


def words_on(device: torch.device, purpose: int, seed: int, stream: int, n: int) -> torch.Tensor:
    """``words`` as int64 of the same bits, (n,)."""
    out = torch.empty(n, dtype=torch.int64, device=device)
    keys = np.array([seed, purpose << 56 | stream], np.uint64).view(np.int64).tolist()
    with torch.cuda.device_of(out):
        _philox[(-(-n // (4 * BLOCK)),)](out, *keys, n, BLOCK=BLOCK)
    return out


@cache
def works(device: torch.device) -> bool:
    """Whether Triton can compile for this device, and makes the very same words."""
    name = 200, 2**63 + 5, 7, 2 * BLOCK + 3
    try:
        return np.array_equal(words_on(device, *name).cpu().numpy(), words(*name).view(np.int64))
    except Exception:
        return False
