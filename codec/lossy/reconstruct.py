"""What is shown of a chain, wherever it stands."""

from __future__ import annotations

import math

import numpy as np
import torch

from codec.randomness.streams import shared_noise
from ddpm.diffusion.likelihood import to_levels
from ddpm.exact.roots import sqrt_

from .basis import Cosines
from .chain import CHROMA, Chain
from .denoise import seen_at
from .plan import Plan

SHARP = -5.0  # gamma, at its own size, from which a small picture is good enough to be shown
RECONSTRUCTIONS = "mean", "flow", "sample"


@torch.inference_mode()
def show(chain: Chain, recon="mean") -> np.ndarray:
    """The pictures of the images where the chain stands, (B, H, W, 3) uint8; see ``reconstruct``."""
    return shown(chain, reconstruct(chain, recon))


def shown(chain: Chain, x_hat: torch.Tensor) -> np.ndarray:
    """(B, H, W, 3) uint8."""
    return to_levels(chain.picture(x_hat)).permute(0, 2, 3, 1).cpu().numpy()


def steps_for(plan: Plan, scale: int) -> int:
    """How many steps a picture ``scale`` times smaller needs: to where averaging leaves no more noise than SHARP."""
    return next((k for k, gamma in enumerate(plan.gammas) if gamma - 2 * math.log(scale) <= SHARP), plan.steps)


@torch.inference_mode()
def show_small(chain: Chain, scale: int) -> np.ndarray:
    """The ``mean`` pictures ``scale`` times smaller, (B, ceil(H / scale), ceil(W / scale), 3) uint8."""
    if math.isinf(chain.gamma):
        return shown(chain, chain.denoise()[0][..., ::scale, ::scale])
    return shown(chain, seen_at(chain.setting.model, scale, chain.gamma, chain.seen())[0])


def reconstruct(chain: Chain, recon: str) -> torch.Tensor:
    """x (B, 3, H, W) from z_t: ``mean`` is ``Chain.mean``; ``flow`` follows the probability-flow ODE; ``sample`` draws
    from p.

    The last two run over the plan's remaining levels; ``sample`` takes its noise from the seed. A grey image is drawn
    as a colour one: what of its colours was never coded is the model's to choose, and not shown.
    """
    if recon == "mean":
        return chain.mean()
    if recon not in RECONSTRUCTIONS:
        raise ValueError(f"unknown reconstruction {recon!r}")
    basis = Cosines(chain.setting.tables, chain.setting.size, grey=False)
    while chain.k < chain.plan.steps:
        step, (x_hat, m) = chain.step(), chain.denoise()
        hat, present = basis.coordinates(x_hat), step.alpha_s > 0
        if recon == "flow":
            ratio = step.sigma_s / step.sigma_t
            basis.times(chain.z, ratio).add_(basis.times(hat, step.alpha_s - step.alpha_t * ratio))
        else:
            noise = shared_noise(chain.setting.seed, 2 * CHROMA + chain.k, chain.z[0].numel()).view_as(chain.z[:1])
            std = sqrt_(1 + basis.extra_variance(chain.level, step.gain, m)).mul_(noise.to(chain.device))
            basis.times(chain.z, np.where(present, step.z_coef, 1.0)).add_(basis.times(hat, step.x_coef))
            chain.z.add_(basis.times(std, np.where(present, step.std_q, 0.0)))
        chain.k += 1
    return chain.denoise()[0]
