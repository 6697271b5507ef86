"""p(x | z_0): what the network says of pixels, in nats; of grey pictures, and in the context of pixels known before."""

from __future__ import annotations

import math

import numpy as np
import torch

from codec.lossy.tables import Context
from ddpm.diffusion.bound import per_dim
from ddpm.diffusion.gaussian import Step
from ddpm.diffusion.likelihood import UNIT_LEVELS, discretized_gaussian_nats, to_levels
from ddpm.diffusion.reverse import Reverse

from .context import Sight
from .entropy import floats, integers


def pixels(reverse: Reverse, last: Step, z: torch.Tensor, grey: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and log of the standard deviation of p(x | z_0), (B, 3, H, W) or (B, 1, H, W) of grey pictures.

    z: (B, 3, H, W), in the coordinates of the process; ``last`` is the step that led to it. Units of x, -1 to 1.
    """
    mean, log_std = reverse.pixels(last, z)
    if grey:
        mean, log_variance = mean_of_colours(mean, 2 * log_std)
        log_std = 0.5 * log_variance
    return mean, log_std


def mean_of_colours(mean: torch.Tensor, log_variance: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and log of the variance of (R + G + B) / 3 where their noise is independent: ln ((v_R + v_G + v_B) / 9).

    (..., 3, H, W) -> (..., 1, H, W).
    """
    return mean.mean(-3, keepdim=True), log_variance.logsumexp(-3, keepdim=True) - math.log(9)


def distortion(context: Context | None, x: torch.Tensor, mean: torch.Tensor, log_std: torch.Tensor) -> torch.Tensor:
    """-ln p(x | z_0) in nats/dim, (B,), of pictures (B, C, H, W) of which mean and log_std are believed."""
    if context is None:
        return per_dim(discretized_gaussian_nats(x, mean, log_std))
    believed = (v.double().cpu().numpy() for v in (mean, log_std))
    sight = Sight(context, *integers(*believed), x.shape)
    groups = sight.predictions(to_levels(x).cpu().numpy())
    return torch.from_numpy(sum(pixel_nats(*group).sum(1) for group in groups)).to(x.device) / x[0].numel()


def pixel_nats(x: np.ndarray, means: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """Of pixels, 0 to 255, under means in sixteenths of a grey level and scales in eighths of an octave of them."""
    return discretized_gaussian_nats(*map(torch.from_numpy, (x / UNIT_LEVELS - 1, *floats(means, scales)))).numpy()
