"""The order in which a step's dimensions meet the trellis, and their signs: so delta is spread evenly."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from ddpm.machine import cpu_count

from .philox import CHUNK, PERMUTATION, SIGNS, words

SHARED = 1 << 18  # words, from which several cores sort them
Scramble = tuple[torch.Tensor, torch.Tensor]


def scramble(seed: int, stream: int, n: int, device: torch.device | str = "cpu") -> Scramble:
    """A random permutation of n < 2^31 positions (int32) and n random signs (int8), for step number ``stream``."""
    device = torch.device(device)
    if device.type != "cpu":
        return _scramble_there(seed, stream, n, device)
    order = argsort(lambda: words(PERMUTATION, seed, stream, n))
    bits = np.unpackbits(words(SIGNS, seed, stream, -(-n // 64)).astype("<u8").view(np.uint8))[:n]
    return torch.from_numpy(order), torch.from_numpy(1 - 2 * bits.astype(np.int8))


def _scramble_there(seed: int, stream: int, n: int, device: torch.device) -> Scramble:
    """``scramble`` on another device, which sorts and unpacks many times faster."""
    keys = _words_there(PERMUTATION, seed, stream, n, device)
    order = keys.bitwise_xor_(torch.iinfo(torch.int64).min).sort(stable=True).indices.int()  # as if without signs
    raw = _words_there(SIGNS, seed, stream, -(-n // 64), device)
    # NumPy unpacks the bytes of a word from the lowest, but the bits of a byte from the highest.
    bits = raw[:, None] >> (torch.arange(64, device=device) ^ 7) & 1
    return order, 1 - 2 * bits.flatten()[:n].to(torch.int8)


def _words_there(purpose: int, seed: int, stream: int, n: int, device: torch.device) -> torch.Tensor:
    """``words`` on another device, as int64 of the same bits."""
    if device.type == "cuda":
        with contextlib.suppress(ImportError):
            from . import philox_cuda

            if philox_cuda.works(device):
                return philox_cuda.words_on(device, purpose, seed, stream, n)
    return torch.from_numpy(words(purpose, seed, stream, n).view(np.int64)).to(device, non_blocking=True)


def argsort(keys: Callable[[], np.ndarray]) -> np.ndarray:
    """The stable order of n < 2^31 uint64 keys, int32: two to four times as fast as NumPy's argsort.

    Sorted are the keys themselves, their lowest bits replaced by indices. Where these decide, the whole keys are asked,
    which are made once more rather than kept.
    """
    packed = keys()
    n = len(packed)
    shift = np.uint64(max(n - 1, 1).bit_length())
    low = (np.uint64(1) << shift) - np.uint64(1)
    packed &= ~low
    packed |= np.arange(n, dtype=np.uint64)
    _sort(packed)
    order, tied = np.empty(n, np.int32), []
    for i in range(0, n, CHUNK):
        order[i : i + CHUNK] = packed[i : i + CHUNK] & low
        top = packed[i : i + CHUNK + 1] >> shift
        tied.append(i + np.flatnonzero(top[1:] == top[:-1]))
    tied = np.concatenate([np.zeros(0, int), *tied])
    if len(tied):
        tied = np.union1d(tied, tied + 1)
        those, top = order[tied], packed[tied] >> shift
        del packed
        order[tied] = those[np.lexsort((those, keys()[those], top))]
    return order


def _sort(values: np.ndarray) -> None:
    """In place; many of them by all cores, each its share."""
    cuts = np.linspace(0, len(values), cpu_count() + 1).astype(int)[1:-1]
    if len(values) < SHARED or not len(cuts):
        values.sort()
        return
    values.partition(cuts)
    with ThreadPoolExecutor() as pool:
        list(pool.map(np.ndarray.sort, np.split(values, cuts)))
