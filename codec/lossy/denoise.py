"""x_hat and m at any point of the chain, at the resolution that is worth it.

At high noise only coarse content shows through z. The orthonormal average over s x s pixels (the Haar LL band) keeps
the noise N(0, sigma^2 I) and multiplies the signal by s, so that, rescaled,

    z' = LL(z) / sqrt(s^2 alpha^2 + sigma^2)   is the s times smaller picture at   gamma' = gamma - 2 ln s,

which the same network has learned to denoise, for 1/s^2 of the work and with s times the view. Calibration says at
which levels this costs no bits worth the time. The chain itself stays at full resolution.

All that is done beside the network is exact (see docs/exact.md): each operation is rounded alike everywhere, sums are
of numbers on a grid, exp is a table.
"""

from __future__ import annotations

import math
from decimal import Decimal, localcontext
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F

from ddpm.diffusion.rounded import DIGITS
from ddpm.diffusion.schedule import DATA_STD, smaller, x_hat_coefficients
from ddpm.models.model import DDPM, LOG_M, mirror

from .tables import CodingTables

GRID = 2.0**-16  # of z and x_hat where they are averaged or interpolated
M_GRID, M_ENTRIES = 2.0**-26, 64  # of m; entries of its table in a unit of its logarithm


def denoise(model: DDPM, tables: CodingTables, level: int, z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """x_hat, float32, cut to the range of images, and m, float64, of z (B, 3, H, W), a point at a level of the tables.

    At the first, where gamma is infinite, what pictures are like: m then is the limit of m exp(gamma), the variance of
    x.
    """
    gamma, scale = tables.gammas[level], tables.scales[level]
    if math.isinf(gamma):
        mean = torch.tensor(tables.mean, device=z.device).view(1, 3, 1, 1).expand_as(z).contiguous()
        return mean, torch.full_like(z, tables.variance, dtype=torch.float64)
    x_hat, m = seen_at(model, scale, gamma, z)
    if scale > 1:
        x_hat, m = enlarge(on_grid(x_hat), scale, z.shape[2:]).float(), enlarge(m, scale, z.shape[2:])
        m = m / scale**2
    return x_hat.contiguous(), m.contiguous()


def mirrored_x_hat(model: DDPM, tables: CodingTables, level: int, z: torch.Tensor) -> torch.Tensor:
    """x_hat of ``denoise`` as it is seen in a mirror, turned back; gamma is finite."""
    scale = tables.scales[level]
    x_hat = seen_at(model, scale, tables.gammas[level], z, mirrored=True)[0]
    return (enlarge(on_grid(x_hat), scale, z.shape[2:]).float() if scale > 1 else x_hat).flip(3)


def seen_at(
    model: DDPM, scale: int, gamma: float, z: torch.Tensor, *, mirrored=False
) -> tuple[torch.Tensor, torch.Tensor]:
    """x_hat, float32, and m, float64, of the picture ``scale`` times smaller that z (B, 3, H, W) at gamma shows."""
    z, gamma = coarse(z.flip(3) if mirrored else z, gamma, scale)
    gammas = torch.full((len(z),), gamma, device=z.device)
    h_eps, h_m = model.maps(z.contiguous(memory_format=torch.channels_last), gammas)
    of_z, of_h, c_out2 = x_hat_coefficients(gamma, DATA_STD)
    x_hat = (h_eps * of_h).add_(z * of_z).clamp_(-1, 1)
    at = h_m.clamp(*LOG_M).sub_(LOG_M[0]).mul_(M_ENTRIES).round_().int()
    return x_hat, m_table(c_out2).to(z.device, non_blocking=True)[at]


@lru_cache
def exps() -> np.ndarray:
    """exp on the range of log m, float64, rounded correctly."""
    low, high = LOG_M
    with localcontext(prec=DIGITS):
        return np.array([float((Decimal(i) / M_ENTRIES).exp()) for i in range(low * M_ENTRIES, high * M_ENTRIES + 1)])


@lru_cache
def m_table(c_out2: float) -> torch.Tensor:
    """m on M_GRID, so that means of four and sums of some hundred of those are exact in float64."""
    return torch.from_numpy(np.rint(exps() * c_out2 / M_GRID) * M_GRID)


def on_grid(values: torch.Tensor) -> torch.Tensor:
    """The nearest multiples of GRID, float64: sums of these, even in binary fractions, are exact."""
    return (values.double() / GRID).round_().mul_(GRID)


def coarse(z: torch.Tensor, gamma: float, scale: int) -> tuple[torch.Tensor, float]:
    """z (B, 3, H, W) at gamma -> the picture ``scale`` times smaller at its own gamma; edges are mirrored."""
    if scale == 1:
        return z, gamma
    below, unit = smaller(gamma, scale)
    z = on_grid(z)
    for axis in sorted((2, 3), key=lambda axis: -z.shape[axis]):  # the longer first: mirroring may need much room
        n = z.shape[axis]
        z = z.index_select(axis, mirror(n, n + -n % scale, z.device)) if n % scale else z
        z = F.avg_pool2d(z, (scale, 1) if axis == 2 else (1, scale))
    return z.mul_(unit).float(), below


def enlarge(values: torch.Tensor, scale: int, size) -> torch.Tensor:
    """The inverse of averaging in ``coarse``, by linear interpolation, cut to ``size``; values float64 on a grid."""
    full = F.interpolate(values, scale_factor=scale, mode="bilinear", align_corners=False)
    return full[..., : size[0], : size[1]]
