"""Code lengths: the discretized Gaussian p(x | z_0) and the variational bound, in nats or bits/dim."""

from __future__ import annotations

import math

import torch

LN2 = math.log(2)  # nats in a bit
UNIT_LEVELS = 127.5  # grey levels in a unit of x
HALF_LEVEL = 1 / 255  # half the spacing of the 8-bit grid on [-1, 1]


def to_unit(levels: torch.Tensor) -> torch.Tensor:
    """8-bit grey levels (any integer or float dtype) -> float32 on [-1, 1]."""
    return levels.to(torch.float32) / UNIT_LEVELS - 1


def to_levels(x: torch.Tensor) -> torch.Tensor:
    """[-1, 1] -> the nearest 8-bit levels, uint8; values outside are clipped."""
    return ((x + 1) * UNIT_LEVELS).round().clamp(0, 255).to(torch.uint8)


def discretized_gaussian_nats(x: torch.Tensor, mean: torch.Tensor, log_std: torch.Tensor) -> torch.Tensor:
    """-ln of the mass that N(mean, std^2) puts on the bin of x; end bins reach to infinity (Ho et al. 2020, eq. 13).

    x lies on the 8-bit grid of [-1, 1]. All of one shape. Differences of the normal cdf are taken in the tail where
    they are accurate, as log Phi(b) + log(1 - Phi(a)/Phi(b)), so nothing underflows.
    """
    inv = torch.exp(-log_std)
    low, high = (x - HALF_LEVEL - mean) * inv, (x + HALF_LEVEL - mean) * inv
    # Reflect bins right of the mean to its left: the mass is the same.
    flip = low + high > 0
    low, high = torch.where(flip, -high, low), torch.where(flip, -low, high)
    log_high, log_low = torch.special.log_ndtr(high), torch.special.log_ndtr(low)
    ratio = (log_low - log_high).clamp(max=-1e-7)
    inner = log_high + torch.log(-torch.expm1(ratio))
    dark, bright = x < -1 + HALF_LEVEL, x > 1 - HALF_LEVEL
    edge = torch.where(dark, (x + HALF_LEVEL - mean) * inv, (mean - x + HALF_LEVEL) * inv)
    return -torch.where(dark | bright, torch.special.log_ndtr(edge), inner)


def nats_to_bits_per_dim(nats: float, dims: int) -> float:
    return nats / (dims * LN2)
