"""The steps of the code as terms of a bound: what the codec would send if channel and entropy coder were ideal."""

from __future__ import annotations

from itertools import pairwise

import torch

from ddpm.bound import Chain, per_dim
from ddpm.gaussian import Step, kl_nats
from ddpm.likelihood import discretized_gaussian_nats
from ddpm.model import DDPM
from ddpm.reverse import Reverse

from .basis import basis_for
from .denoise import denoise
from .plan import Plan


class Coded(Chain):
    """KL(q || p) of the codec's own steps, in nats per coded dimension, for pictures (B, 3, H, W) of one size.

    There is no prior: the first step sends z_T itself. The distortion, -ln p(x | z_0), is for lossless files only.
    """

    def __init__(self, model: DDPM, plan: Plan, size: tuple[int, int], grey: bool = False):
        self.reverse, self.model, self.plan = Reverse(model), model, plan
        self.levels = plan.steps
        self.steps = [Step(t, s) for t, s in pairwise(plan.gammas)]
        self.basis, self.grey = basis_for(model.coding, size, grey), grey

    def prior(self, x):
        return torch.zeros(len(x), device=x.device)

    def look(self, k, x, eps):
        step, level = self.steps[k], self.plan.stops[k]
        _, x_hat, m = denoise(self.model, level, step.gamma_t, step.alpha_t * x + step.sigma_t * eps)
        delta = self.basis.coordinates(step.delta(x, x_hat))
        return kl_nats(delta**2, self.basis.extra_variance(level, step, m)).mean(1), x_hat

    def drawn(self, u, x, eps):
        raise NotImplementedError("the steps of the code are few: compute them all")

    def last_look(self, x, eps):
        last = self.steps[-1]
        mean, log_std = pixels(self.reverse, last, last.alpha_s * x + last.sigma_s * eps, self.grey)
        return per_dim(discretized_gaussian_nats(x[:, : mean.shape[1]], mean, log_std)), mean


def pixels(reverse: Reverse, last: Step, z: torch.Tensor, grey: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and log of the standard deviation of p(x | z_0), (B, 3, H, W) or of the one channel of grey pictures.

    There it is the mean of three whose noise is independent. ``last`` is the step that led to z_0.
    """
    mean, log_std = reverse.pixels(last, z)
    if grey:
        mean, log_std = mean.mean(1, keepdim=True), 0.5 * ((2 * log_std).exp().mean(1, keepdim=True) / 3).log()
    return mean, log_std
