"""The steps of the code as terms of a bound: what the codec would send if the channel were ideal."""

from __future__ import annotations

from itertools import pairwise

import torch

from ddpm.bound import Chain, per_dim
from ddpm.gaussian import Step, kl_nats
from ddpm.model import DDPM
from ddpm.reverse import Reverse

from .basis import basis_for
from .denoise import denoise
from .plan import Plan


class Coded(Chain):
    """KL(q || p) of the codec's own steps, in nats per coded dimension, for pictures (B, 3, H, W) of one size.

    There is no prior: the first step sends z_T itself. There is no distortion either: a lossy file ends with a step.
    """

    def __init__(self, model: DDPM, plan: Plan, size: tuple[int, int], grey: bool = False):
        self.reverse, self.model, self.plan = Reverse(model), model, plan
        self.levels = plan.steps
        self.steps = [Step(t, s) for t, s in pairwise(plan.gammas)]
        self.basis = basis_for(model.coding, size, grey)

    def prior(self, x):
        return torch.zeros(len(x), device=x.device)

    def term(self, k, x, eps):
        step, level = self.steps[k], self.plan.stops[k]
        _, x_hat, m = denoise(self.model, level, step.gamma_t, step.alpha_t * x + step.sigma_t * eps)
        delta = self.basis.coordinates(step.delta(x, x_hat))
        return kl_nats(delta**2, self.basis.extra_variance(level, step, m)).mean(1)

    def drawn(self, u, x, eps):
        raise NotImplementedError("the steps of the code are few: compute them all")

    def distortion(self, x, eps):
        return per_dim(torch.zeros_like(x))
