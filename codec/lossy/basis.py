"""The coordinates that the code speaks of, and how uncertain p is in each of them.

q(z_s | z_t, x) has the same variance in every orthonormal basis, so the step can be coded in whichever p describes
best. x - x_hat is far from white: neighbours and colours err together. Its cosine transform over small blocks is nearly
uncorrelated, and p with a variance for each frequency pays less for a long step than p with a variance for each
pixel: sum 1/2 ln(1 + r_i) is smallest where the r_i are the eigenvalues. (At infinitely many steps they cost the
same.) The variance in a coordinate is the network's m, averaged over the block, times what calibration found for this
level and band of frequencies; m may be raised to a power, as some frequencies vary less from block to block than m
does, and others more.

A grey image is one with x in the direction (1, 1, 1)/sqrt(3) of colour space, the first of the basis. Only the
coordinates along it are coded.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import lru_cache

import numpy as np
import torch
from scipy.fft import dct

from ddpm.diffusion.gaussian import Step

from .tables import RINGS, CodingTables

AT_ONCE = 1 << 18  # pixels; large pictures are transformed a few rows of blocks at a time, in memory that is near


def gain(step: Step) -> float:
    """delta^2 per squared error of eps, and its limit for a z_t that knows nothing (m then is the variance of x)."""
    return step.gain if math.isfinite(step.gain) else (step.alpha_s / step.sigma_s) ** 2


class Cosines:
    """Discrete cosine transform over the three colours and blocks of the tables' side, of pictures of one size.

    At the right and lower edges a smaller block takes what is left.
    """

    def __init__(self, tables: CodingTables, size: tuple[int, int], grey: bool):
        self.block, self.size, self.grey = tables.block, size, grey
        self.bands, self.powers = tables.of(grey).bands, tables.of(grey).powers
        self.band = band_of(self.block, size, 1 if grey else 3)

    def coordinates(self, values: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) -> (B, n), the coded coordinates: all of them, or those along grey."""
        colours = cosines(3)[: len(self.band)].to(values, non_blocking=True)
        out = values.new_empty(len(values), *self.band.shape)
        for rows in self.strips():
            out[:, :, rows] = self._blocks(torch.einsum("ck,bkhw->bchw", colours, values[:, :, rows]), cosines)
        return out.flatten(1)

    def picture(self, coordinates: torch.Tensor) -> torch.Tensor:
        """(B, n) -> (B, 3, H, W), the adjoint of ``coordinates``."""
        values = coordinates.view(-1, *self.band.shape)
        colours = cosines(3)[: len(self.band)].to(values, non_blocking=True)
        out = values.new_empty(len(values), 3, *self.size)
        for rows in self.strips():
            part = self._blocks(values[:, :, rows], lambda n: cosines(n).T)
            out[:, :, rows] = torch.einsum("ck,bchw->bkhw", colours, part)
        return out

    def extra_variance(self, level: int, step: Step, m: torch.Tensor) -> torch.Tensor:
        """r = E delta^2 in the coded coordinates, (B, n), of a step from the given level of the tables."""
        r = m.new_empty(len(m), *self.band.shape)
        bands, powers = (torch.tensor(table[level]).view(-1, 1, 1) for table in (self.bands, self.powers))
        linear = bool((powers == 1).all())
        bands, powers = (table.to(m.device, non_blocking=True) for table in (bands, powers))
        for rows in self.strips():
            for columns in runs(self.size[1], self.block, self.size[1]):
                h, w = (min(self.block, part.stop - part.start) for part in (rows, columns))
                band = self.band[:, rows, columns][:, :h, :w].to(m.device, non_blocking=True)  # in every block here
                local = self.local(m[:, :, rows, columns])[:, :, ::h, ::w]
                raised = local if linear else local**powers
                of_bands = (gain(step) * raised * bands).index_select(1, band.flatten().int())
                part = r[:, :, rows, columns].unflatten(3, (-1, w)).unflatten(2, (-1, h))
                part.copy_(of_bands.unflatten(1, band.shape).permute(0, 1, 4, 2, 5, 3))
        return r.flatten(1)

    def local(self, m: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) -> (B, 1, H, W): the mean over the block and the colours."""
        return self._blocks(m.mean(1, keepdim=True), lambda n: torch.full((n, n), 1 / n))

    def strips(self) -> Iterator[slice]:
        """Rows of the picture, of blocks of one height."""
        return runs(self.size[0], self.block, AT_ONCE // self.size[1])

    def _blocks(self, values: torch.Tensor, matrix) -> torch.Tensor:
        """matrix(n) (n, n) applied along both sides of every block, n its length there."""
        for _ in range(2):
            values = along(values, self.block, matrix).transpose(2, 3)
        return values


def runs(n: int, block: int, most: int) -> Iterator[slice]:
    """0 ... n in whole blocks, not many more than ``most`` values at once, and then what is left of a block."""
    whole, step = n - n % block, max(1, most // block) * block
    yield from (slice(i, min(i + step, whole)) for i in range(0, whole, step))
    if whole < n:
        yield slice(whole, n)


def along(values: torch.Tensor, block: int, matrix) -> torch.Tensor:
    """matrix(n) (n, n) applied to each run of n = ``block`` values of the last axis, and to the shorter rest."""
    rest = values.shape[-1] % block
    whole, rest = values.split([values.shape[-1] - rest, rest], -1)
    parts = []
    if whole.shape[-1]:
        parts.append((whole.unflatten(-1, (-1, block)) @ matrix(block).T.to(values, non_blocking=True)).flatten(-2))
    if rest.shape[-1]:
        parts.append(rest @ matrix(rest.shape[-1]).T.to(values, non_blocking=True))
    return torch.cat(parts, -1) if len(parts) > 1 else parts[0]


@lru_cache
def cosines(n: int) -> torch.Tensor:
    """(n, n): row k is the k-th orthonormal cosine (DCT-II). Of the three colours: grey, red - blue, green."""
    return torch.from_numpy(np.asarray(dct(np.eye(n), axis=0, norm="ortho"), np.float32))


@lru_cache(maxsize=8)
def band_of(block: int, size: tuple[int, int], colours: int) -> torch.Tensor:
    """(colours, H, W) uint8: the band of each coordinate, colour * RINGS + ring."""

    def frequency(n):
        i = np.arange(n)
        length = np.minimum(block, n - i // block * block)
        return i % block * (8 / length)

    radius = np.hypot(frequency(size[0])[:, None], frequency(size[1])[None])
    ring = np.minimum(np.rint(radius), RINGS - 1).astype(np.uint8)
    return torch.from_numpy(np.arange(colours, dtype=np.uint8)[:, None, None] * RINGS + ring)
