"""What an exact network says of the pixels: the very same integers on every machine, with nothing to agree upon."""

from __future__ import annotations

from decimal import Decimal, localcontext
from functools import lru_cache

import numpy as np
import torch

from codec.lossy.basis import over
from codec.lossy.chain import mean_of_colours
from codec.lossy.denoise import seen_at
from codec.lossy.setting import Setting
from ddpm.diffusion.schedule import DIGITS
from ddpm.models.model import DDPM

from .entropy import FRACTIONS, HALF, HIGHEST, LOWEST, OCTAVE
from .pixels import Pixels


def pixels_of(setting: Setting) -> Pixels:
    """Of the setting's model."""
    return ExactPixels(setting) if knows(setting.model, setting.plan.gammas[-1]) else Pixels(setting)


def knows(model: DDPM, gamma: float) -> bool:
    """Whether the model has an exact network for this level."""
    return model.exact is not None and model.exact.knows(torch.tensor([float(gamma)]))


class ExactPixels(Pixels):
    """x given z_0, of which encoder and decoder have the same."""

    @torch.inference_mode()
    def settled(self, z, agree):
        gamma = self.step.gamma_t
        return [*integers(gamma, *seen_at(self.model, 1, gamma, z[None]), self.grey)]


def integers(gamma: float, x_hat: torch.Tensor, m: torch.Tensor, grey: bool) -> tuple[np.ndarray, np.ndarray]:
    """Of p(x | z) at a noise level, (n,) int32: means in sixteenths of a grey level, scales in eighths of an octave.

    x_hat (B, 3, H, W) float32, which is used up, and m, likewise, float64, as ``seen_at`` has them.
    """
    if grey:
        x_hat, m = mean_of_colours(x_hat), over(m.sum(1, keepdim=True), 9)
    means = (x_hat + 1).mul_(HALF).mul_(FRACTIONS).round_().int()
    scales = np.searchsorted(edges(gamma), m.cpu().numpy().ravel(), side="right") + LOWEST
    return means.cpu().numpy().ravel(), scales.astype(np.int32)


@lru_cache
def edges(gamma: float) -> np.ndarray:
    """m from which a deviation is nearer to the next eighth of an octave: HALF sigma/alpha sqrt(m) grey levels."""
    with localcontext(prec=DIGITS):
        unit = Decimal(HALF) ** 2 * Decimal(gamma).exp()  # sigma^2 / alpha^2 in squared grey levels
        halves = (Decimal(2 * k + 1) / OCTAVE for k in range(LOWEST, HIGHEST))
        return np.array([float((Decimal(2).ln() * half).exp() / unit) for half in halves])
