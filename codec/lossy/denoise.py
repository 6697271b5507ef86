"""x_hat and m at any point of the chain, at the resolution that is worth it.

At high noise only coarse content shows through z. The orthonormal average over s x s pixels (the Haar LL band) keeps
the noise N(0, sigma^2 I) and multiplies the signal by s, so that, rescaled,

    z' = LL(z) / sqrt(s^2 alpha^2 + sigma^2)   is the s times smaller picture at   gamma' = gamma - 2 ln s,

which the same network has learned to denoise, for 1/s^2 of the work and with s times the view. Calibration says at
which levels this costs no bits worth the time. The chain itself stays at full resolution.

The network computes in float32 or, if a file says so, in bfloat16 (ddpm/networks/arithmetic.py), which some machines do
several times faster.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from ddpm.diffusion.gaussian import Step, x_from
from ddpm.diffusion.schedule import alpha_sigma
from ddpm.models.model import DDPM, mirror

from .alone import Alone, by_one_thread_each
from .tables import CodingTables


def denoise(
    model: DDPM | Alone, tables: CodingTables, level: int, z: torch.Tensor, bf16=False
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """eps_hat, x_hat cut to the range of images, and m at z (B, 3, H, W), a point at ``level`` of the tables.

    At the first, where gamma is infinite, what pictures are like: m then is the limit of m exp(gamma), the variance of
    x.
    """
    gamma, scale = tables.gammas[level], tables.scales[level]
    if math.isinf(gamma):
        mean = torch.tensor(tables.mean, device=z.device).view(1, 3, 1, 1).expand_as(z).contiguous()
        return z, mean, torch.full_like(z, tables.variance)
    eps_hat, x_hat, m = seen_at(model, scale, gamma, z, bf16=bf16)
    if scale > 1:
        x_hat, m = (enlarge(v, scale, z.shape[2:]) for v in (x_hat, m / scale**2))
        eps_hat = Step(gamma, gamma - 1).eps_hat(z, x_hat, fused=True)
    x_hat = x_hat.contiguous()
    return eps_hat, x_hat, m.contiguous()


def mirrored_x_hat(model: DDPM | Alone, tables: CodingTables, level: int, z: torch.Tensor, bf16=False) -> torch.Tensor:
    """x_hat of ``denoise`` as it is seen in a mirror, turned back; gamma is finite."""
    scale = tables.scales[level]
    x_hat = seen_at(model, scale, tables.gammas[level], z, bf16=bf16, mirrored=True)[1]
    return (enlarge(x_hat, scale, z.shape[2:]) if scale > 1 else x_hat).flip(3)


def seen_at(
    model: DDPM | Alone, scale: int, gamma: float, z: torch.Tensor, *, bf16=False, mirrored=False
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """eps_hat, x_hat and m of the picture ``scale`` times smaller that z (B, 3, H, W) at gamma shows.

    Large pictures need the room, so no z but the network's own is kept meanwhile.
    """
    z, gamma = coarse(z.flip(3) if mirrored else z, gamma, scale)
    height, width = z.shape[2:]
    gammas = torch.full((len(z),), gamma, device=z.device)
    z = model.padded(z).contiguous(memory_format=torch.channels_last)
    eps_hat, log_m = model(z, gammas, bf16) if bf16 else model(z, gammas)
    alpha, sigma = map(float, alpha_sigma(gamma))
    x_hat = x_from(z, eps_hat, alpha, sigma, fused=True).clamp_(-1, 1)
    eps_hat, x_hat, m = (v[..., :height, :width] for v in (eps_hat, x_hat, log_m.exp_()))
    return eps_hat, x_hat, m


def coarse(z: torch.Tensor, gamma: float, scale: int) -> tuple[torch.Tensor, float]:
    """z (B, 3, H, W) at gamma -> the picture ``scale`` times smaller at its own gamma; edges are mirrored."""
    if scale == 1:
        return z, gamma
    alpha, sigma = alpha_sigma(gamma)
    unit = scale / math.sqrt(scale**2 * float(alpha) ** 2 + float(sigma) ** 2)
    for axis in sorted((2, 3), key=lambda axis: -z.shape[axis]):  # the longer first: mirroring may need much room
        n = z.shape[axis]
        z = z.index_select(axis, mirror(n, n + -n % scale, z.device)) if n % scale else z
        z = F.avg_pool2d(z, (scale, 1) if axis == 2 else (1, scale))
    return z * unit, gamma - 2 * math.log(scale)


def enlarge(values: torch.Tensor, scale: int, size) -> torch.Tensor:
    """The inverse of the averaging in ``coarse``, by linear interpolation, cut to ``size``."""

    def interpolated(part):
        return F.interpolate(part, scale_factor=scale, mode="bilinear", align_corners=False)

    if values.device.type == "cpu":  # its last digits depend on the number of threads
        full = torch.cat(by_one_thread_each(interpolated, values.split(1)))
    else:
        full = interpolated(values)
    return full[..., : size[0], : size[1]]
