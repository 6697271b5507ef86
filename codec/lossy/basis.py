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

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from math import prod

import numpy as np
import torch

from ddpm.diffusion.bands import COLOURS, Bands
from ddpm.diffusion.cosines import along, band_of
from ddpm.diffusion.cosines import cosines as orthonormal
from ddpm.diffusion.process import BandStep
from ddpm.exact.roots import sqrt

from .tables import CodingTables

GRID, COSINE = 2.0**-19, 2.0**-20  # of coordinates on their way to pixels, of cosines: sums are exact in float64
AT_ONCE = 1 << 18  # pixels; large pictures are transformed a few rows of blocks at a time, in memory that is near


class Cosines:
    """Discrete cosine transform over the three colours and blocks of the tables' side, of pictures of one size.

    At the right and lower edges a smaller block takes what is left. ``colours``: how many of the three are coded.
    """

    def __init__(self, tables: CodingTables, size: tuple[int, int], grey: bool):
        self.block, self.size, self.colours = tables.block, size, 1 if grey else COLOURS
        self.bands, self.powers = tables.of(grey).bands, tables.of(grey).powers
        self.band, self.noise = band_of(self.block, size, COLOURS), tables.noise

    def step(self, gamma_t: float, gamma_s: float) -> BandStep:
        """The transition between two levels."""
        return _step(self.noise, gamma_t, gamma_s)

    def view(self, gamma: float, *, turned=False) -> np.ndarray:
        """What z is multiplied with in each band for the network, see ``Bands``. turned: noise that says nothing of x
        gets the opposite sign."""
        view = _view(self.noise, gamma)
        return np.where(self.noise.snr(gamma) > 0, view, -view) if turned else view

    def coordinates(self, values: torch.Tensor, colours: int | None = None) -> torch.Tensor:
        """(B, 3, H, W) -> those that are coded, (B, 3 or 1, H, W), or of so many ``colours``."""
        count = colours or self.colours
        matrix = cosines(COLOURS)[:count].to(values.device, non_blocking=True)
        out = values.new_empty(len(values), count, *self.size)
        for rows in self.strips():
            part = whole(torch.einsum("ck,bkhw->bchw", matrix, in_grid(values[:, :, rows])))
            out[:, :, rows] = self._blocks(part, cosines).mul_(GRID)
        return out

    def picture(self, coordinates: torch.Tensor, weights: np.ndarray | None = None) -> torch.Tensor:
        """(B, 3 or 1, H, W) -> (B, 3, H, W), the adjoint of ``coordinates``, after weights of the bands, if any."""
        matrix = cosines(COLOURS)[: coordinates.shape[1]].to(coordinates.device, non_blocking=True)
        out = coordinates.new_empty(len(coordinates), COLOURS, *self.size)
        for rows in self.strips():
            part = coordinates[:, :, rows]
            part = part if weights is None else part * self.spread(weights, rows, part)
            part = self._blocks(in_grid(part), lambda n: cosines(n).T)
            out[:, :, rows] = whole(torch.einsum("ck,bchw->bkhw", matrix, part)).mul_(GRID)
        return out

    def seen(self, step: BandStep, x: torch.Tensor, eps: torch.Tensor) -> torch.Tensor:
        """What the network is shown of z_t = alpha_t x + sigma_t eps, (B, 3, H, W) pixels; x in pixels, eps not."""
        z = self.times(self.coordinates(x, COLOURS), step.alpha_t)
        return self.picture(z.add_(self.times(eps.clone(), step.sigma_t)), step.view)

    def delta(self, step: BandStep, x: torch.Tensor, x_hat: torch.Tensor) -> torch.Tensor:
        """(mean_q - mean_p) / std_q in the coded coordinates, (B, 3 or 1, H, W); x, x_hat (B, 3, H, W) pixels."""
        return self.times(self.coordinates(x - x_hat), step.x_coef / step.std_q)

    def times(self, values: torch.Tensor, weights: np.ndarray) -> torch.Tensor:
        """(B, 3 or 1, H, W) coordinates multiplied, in place, with weights of the bands."""
        for rows in self.strips():
            values[:, :, rows] *= self.spread(weights, rows, values)
        return values

    def spread(self, weights: np.ndarray, rows: slice, like: torch.Tensor) -> torch.Tensor:
        """Numbers of the bands, (BANDS,), over some rows of coordinates (B, C, H, W); one if all are the same."""
        if (weights == weights[0]).all():
            return like.new_tensor(weights[0])
        return like.new_tensor(weights)[self.band[: like.shape[1], rows].to(like.device, non_blocking=True).int()]

    def places(self, present: np.ndarray) -> Places:
        """Where those coded coordinates lie that belong to bands that are ``present``, (BANDS,)."""
        band = self.band[: self.colours].flatten()
        if present.all():
            return Places(None, band)
        at = torch.from_numpy(present)[band.int()].nonzero()[:, 0]
        return Places(at, band[at])

    def extra_variance(self, level: int, gain: np.ndarray, m: torch.Tensor) -> torch.Tensor:
        """r = E delta^2 in the coded coordinates, (B, 3 or 1, H, W) float32, of a step from a level of the tables;
        exact.

        gain: that of the step. m: (B, 3, H, W) float64.
        """
        r = m.new_empty(len(m), self.colours, *self.size, dtype=torch.float32)
        bands = m.new_tensor(gain[: len(self.bands[level])] * self.bands[level]).view(-1, 1, 1)
        powers = self.powers[level]
        for rows in self.strips():
            for columns in runs(self.size[1], self.block, self.size[1]):
                h, w = (min(self.block, part.stop - part.start) for part in (rows, columns))
                band = self.band[: self.colours, rows, columns][:, :h, :w]  # in every block here
                band = band.to(m.device, non_blocking=True)
                local = self.local(m[:, :, rows, columns], h, w)
                raised = torch.cat([to_the_power(local, power) for power in powers], 1)
                of_bands = (raised * bands).float().index_select(1, band.flatten().int())
                part = r[:, :, rows, columns].unflatten(3, (-1, w)).unflatten(2, (-1, h))
                part.copy_(of_bands.unflatten(1, band.shape).permute(0, 1, 4, 2, 5, 3))
        return r

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


@dataclass(frozen=True)
class Places:
    """Some of the coded coordinates of a picture. at: their places, (n,) int64, None for all of them; band: of each."""

    at: torch.Tensor | None
    band: torch.Tensor

    def of(self, coordinates: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) -> (B, n)."""
        flat = coordinates.flatten(1)
        return flat[:, : len(self.band)] if self.at is None else flat.index_select(1, self.at.to(flat.device))

    def add(self, coordinates: torch.Tensor, values: torch.Tensor) -> None:
        """``values`` (B, n) to coordinates (B, C, H, W), in place."""
        flat = coordinates.view(len(coordinates), -1)
        if self.at is None:
            flat[:, : len(self.band)] += values
        else:
            flat.index_add_(1, self.at.to(flat.device), values)

    def put(self, coordinates: torch.Tensor, values: torch.Tensor) -> None:
        """``values`` (B, n) in the place of what coordinates (B, C, H, W) have there."""
        flat = coordinates.view(len(coordinates), -1)
        flat[:, slice(len(self.band)) if self.at is None else self.at.to(flat.device)] = values

    def spread(self, weights: np.ndarray, like: torch.Tensor) -> torch.Tensor:
        """Numbers of the bands, (BANDS,), over them, (n,); one number, if all are the same."""
        if (weights == weights[0]).all():
            return like.new_tensor(weights[0])
        return like.new_tensor(weights)[self.band.to(like.device).int()]


def runs(n: int, block: int, most: int) -> Iterator[slice]:
    """0 ... n in whole blocks, not many more than ``most`` values at once, and then what is left of a block."""
    whole, step = n - n % block, max(1, most // block) * block
    yield from (slice(i, min(i + step, whole)) for i in range(0, whole, step))
    if whole < n:
        yield slice(whole, n)


@lru_cache(maxsize=128)
def _step(noise: Bands, gamma_t: float, gamma_s: float) -> BandStep:
    return BandStep(noise, gamma_t, gamma_s)


@lru_cache(maxsize=128)
def _view(noise: Bands, gamma: float) -> np.ndarray:
    return noise.view(gamma)


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
    return prod(factors[1:], start=factors[0]) if factors else torch.ones_like(values)
