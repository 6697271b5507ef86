"""The coordinates that the code speaks of, and how uncertain p is in each of them.

q(z_s | z_t, x) has the same variance in every orthonormal basis, so the step can be coded in whichever p describes
best. x - x_hat is far from white: neighbours and colours err together. Its cosine transform over small blocks is nearly
uncorrelated, and p with a variance for each frequency pays less for a long step than p with a variance for each
pixel: sum 1/2 ln(1 + r_i) is smallest where the r_i are the eigenvalues. (At infinitely many steps they cost the
same.) The variance in a coordinate is the network's m, averaged over the block, times what calibration found for this
level and band of frequencies; m may be raised to a power, as some frequencies vary less from block to block than m
does, and others more.

The transform is exact: of whole numbers, the values in units of a grid, by whole numbers, the cosines; so that all
machines have the same.

A grey image is one with x in the direction (1, 1, 1)/sqrt(3) of colour space, the first of the basis. Only the
coordinates along it are coded.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import lru_cache

import torch

from ddpm.diffusion.cosines import along, band_of
from ddpm.diffusion.cosines import cosines as orthonormal
from ddpm.diffusion.gaussian import Step
from ddpm.exact.roots import sqrt

from .tables import CodingTables

GRID, COSINE = 2.0**-19, 2.0**-20  # of coordinates on their way to pixels, of cosines: sums are exact in float64
AT_ONCE = 1 << 18  # pixels; large pictures are transformed a few rows of blocks at a time, in memory that is near


def gain(step: Step) -> float:
    """delta^2 per squared error of eps, and its limit for a z_t that knows nothing (m then is the variance of x)."""
    return step.gain if math.isfinite(step.gain) else step.alpha_s * step.alpha_s / (step.sigma_s * step.sigma_s)


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
        colours = self._colours(values)
        out = values.new_empty(len(values), *self.band.shape)
        for rows in self.strips():
            part = whole(torch.einsum("ck,bkhw->bchw", colours, in_grid(values[:, :, rows])))
            out[:, :, rows] = self._blocks(part, cosines).mul_(GRID)
        return out.flatten(1)

    def picture(self, coordinates: torch.Tensor) -> torch.Tensor:
        """(B, n) -> (B, 3, H, W), the adjoint of ``coordinates``."""
        colours, values = self._colours(coordinates), coordinates.view(-1, *self.band.shape)
        out = values.new_empty(len(values), 3, *self.size)
        for rows in self.strips():
            part = self._blocks(in_grid(values[:, :, rows]), lambda n: cosines(n).T)
            out[:, :, rows] = whole(torch.einsum("ck,bchw->bkhw", colours, part)).mul_(GRID)
        return out

    def _colours(self, like: torch.Tensor) -> torch.Tensor:
        return cosines(3)[: len(self.band)].to(like.device, non_blocking=True)

    def extra_variance(self, level: int, step: Step, m: torch.Tensor) -> torch.Tensor:
        """r = E delta^2 in the coded coordinates, (B, n) float32, of a step from the given level of the tables; exact.

        m: (B, 3, H, W) float64.
        """
        r = m.new_empty(len(m), *self.band.shape, dtype=torch.float32)
        bands = torch.tensor(self.bands[level], dtype=torch.float64, device=m.device).view(-1, 1, 1) * gain(step)
        powers = self.powers[level]
        for rows in self.strips():
            for columns in runs(self.size[1], self.block, self.size[1]):
                h, w = (min(self.block, part.stop - part.start) for part in (rows, columns))
                band = self.band[:, rows, columns][:, :h, :w].to(m.device, non_blocking=True)  # in every block here
                local = self.local(m[:, :, rows, columns], h, w)
                raised = torch.cat([to_the_power(local, power) for power in powers], 1)
                of_bands = (raised * bands).float().index_select(1, band.flatten().int())
                part = r[:, :, rows, columns].unflatten(3, (-1, w)).unflatten(2, (-1, h))
                part.copy_(of_bands.unflatten(1, band.shape).permute(0, 1, 4, 2, 5, 3))
        return r.flatten(1)

    def local(self, m: torch.Tensor, h: int, w: int) -> torch.Tensor:
        """(B, 3, H, W) of whole blocks h x w -> (B, 1, H / h, W / w): the mean over the block and the colours."""
        total = m.unflatten(3, (-1, w)).unflatten(2, (-1, h)).sum((1, 3, 5))
        return over(total[:, None], m.shape[1] * h * w)

    def strips(self) -> Iterator[slice]:
        """Rows of the picture, of blocks of one height."""
        return runs(self.size[0], self.block, AT_ONCE // self.size[1])

    def _blocks(self, values: torch.Tensor, matrix) -> torch.Tensor:
        """matrix(n) (n, n) of cosines applied along both sides of every block, n its length there."""
        for _ in range(2):
            values = whole(along(values, self.block, matrix)).transpose(2, 3)
        return values


def runs(n: int, block: int, most: int) -> Iterator[slice]:
    """0 ... n in whole blocks, not many more than ``most`` values at once, and then what is left of a block."""
    whole, step = n - n % block, max(1, most // block) * block
    yield from (slice(i, min(i + step, whole)) for i in range(0, whole, step))
    if whole < n:
        yield slice(whole, n)


@lru_cache
def cosines(n: int) -> torch.Tensor:
    """(n, n) float64: row k is the k-th orthonormal cosine (DCT-II), in whole units of COSINE. Of the three colours:
    grey, red - blue, green."""
    return torch.round(orthonormal(n) / COSINE)


def in_grid(values: torch.Tensor) -> torch.Tensor:
    """The nearest whole numbers of GRID, float64."""
    return (values.double() / GRID).round_()


def whole(values: torch.Tensor) -> torch.Tensor:
    """Back from units of COSINE to whole numbers."""
    return values.mul_(COSINE).round_()


def over(values: torch.Tensor, n: int) -> torch.Tensor:
    """values / n, rounded correctly: by a plain number, CUDA multiplies by the inverse."""
    return values / values.new_full((), n)


def to_the_power(values: torch.Tensor, power: float) -> torch.Tensor:
    """values^power, power a multiple of 1/4, by square roots, which are rounded alike everywhere."""
    whole, quarters = divmod(round(4 * power), 4)
    root = sqrt(values)
    factors = [values] * whole + [root] * (quarters >> 1) + [sqrt(root)] * (quarters & 1)
    return math.prod(factors[1:], start=factors[0]) if factors else torch.ones_like(values)
