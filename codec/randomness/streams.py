"""Randomness that encoder and decoder share, the same on every machine and for every library version.

Every number comes from raw words of Philox4x64-10 (Salmon et al. 2011), a counter-based generator: a stream is named by
a 128-bit key and any part of it can be made without the rest. Words become Gaussians through the inverse normal cdf,
rounded to a fixed-point grid, so that last-place differences between maths libraries vanish.
"""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import numpy as np
import torch
from scipy.special import ndtri

from codec.errors import CodecError
from ddpm.machine import cpu_count

GRID = 2.0**-10  # spacing of the shared Gaussians
# CRC-32 of the first 8 rows of labels (little-endian float32) for registers of 0, 1, ... bits.
LABEL_CHECKS = (
    1352101409, 43583945, 524341179, 16441008, 3918081204, 2344278407, 3366898895, 3297720874, 897007755,
    752889256, 876294019, 2087181246, 3706349562, 1924321987, 1426036254, 3903551504, 2716041103,
)  # fmt: skip
CHUNK = 1 << 20  # words
SHARED = 1 << 18  # words, from which several cores sort them
Scramble = tuple[torch.Tensor, torch.Tensor]
LABELS, PERMUTATION, SIGNS, FILLING = range(1, 5)  # purposes; each has its own streams


def words(purpose: int, seed: int, stream: int, n: int) -> np.ndarray:
    """n uint64 words of the stream named by (purpose, seed, stream); purpose < 2^8, seed < 2^64, stream < 2^56."""
    return generator(purpose, seed, stream).random_raw(n)


def generator(purpose: int, seed: int, stream: int) -> np.random.Philox:
    """What makes the words of a stream, from its beginning."""
    return np.random.Philox(key=np.array([seed, purpose << 56 | stream], np.uint64))


def gaussians(raw: np.ndarray) -> np.ndarray:
    """uint64 words -> N(0, 1) on the grid of spacing GRID, float32 (exact: every value is a multiple of GRID)."""
    u = ((raw >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52
    return on_grid(ndtri(u))


def stream_of_gaussians(purpose: int, seed: int, stream: int, n: int) -> np.ndarray:
    """The Gaussians of n ``words``, made a chunk at a time: on their way they take ten times their room."""
    source, out = generator(purpose, seed, stream), np.empty(n, np.float32)
    for i in range(0, n, CHUNK):
        out[i : i + CHUNK] = gaussians(source.random_raw(min(CHUNK, n - i)))
    return out


def on_grid(values: np.ndarray) -> np.ndarray:
    """float64 -> the nearest multiples of GRID, float32."""
    return (np.rint(values / GRID) * GRID).astype(np.float32)


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


def filling(seed: int, stream: int, n: int) -> torch.Tensor:
    """n shared Gaussians for what no message speaks of: z_T, and the part of a step that a cut file lacks."""
    return torch.from_numpy(stream_of_gaussians(FILLING, seed, stream, n))
