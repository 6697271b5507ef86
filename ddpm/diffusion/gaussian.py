"""The Gaussians of the chain in closed form (Ho et al. 2020, eqs. 4-8; Kingma et al. 2021, appendix A).

Between two levels, gamma_s < gamma_t, everything follows from c = 1 - exp(gamma_s - gamma_t):

    q(z_s | z_t, x) = N(alpha_s ((1 - c) z_t / alpha_t + c x), sigma_s^2 c)
    p(z_s | z_t)    = N(the same mean with x_hat for x,        sigma_s^2 c (1 + r))

where r, the variance that p needs on top of q's, is the expected square of delta = (mean_q - mean_p) / std_q.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from decimal import Decimal, localcontext
from typing import Any

import numpy as np
import torch

from .rounded import DIGITS
from .schedule import rounded_alpha_sigma


def x_from(z, eps, alpha, sigma, fused=False):
    """x = (z - sigma eps) / alpha, where z = alpha x + sigma eps; with eps_hat for eps, x_hat. Any shape.

    fused: tensors, alpha and sigma numbers; in one new map instead of three, for large pictures. The last digits of the
    two differ, and files depend on them: each place keeps to its own.
    """
    if fused:
        return torch.sub(z, eps, alpha=sigma).div_(alpha)
    return (z - sigma * eps) / alpha


def eps_from(z, x, alpha, sigma, fused=False):
    """eps = (z - alpha x) / sigma, as ``x_from``."""
    return x_from(z, x, sigma, alpha, fused)


class Step:
    """One reverse transition z_t -> z_s, gamma_s < gamma_t. All coefficients are float64 scalars.

    gamma_t may be infinite: z_t is then noise that knows nothing of x, and q(z_s | z_t, x) is q(z_s | x). For a batch
    of different transitions see ``stack``.
    """

    alpha_t: Any
    sigma_t: Any
    alpha_s: Any
    sigma_s: Any
    c: Any
    z_coef: Any
    x_coef: Any
    std_q: Any
    gain: Any

    def __init__(self, gamma_t: float, gamma_s: float):
        if not gamma_s < gamma_t:
            raise ValueError(f"gamma must fall along a step, not go from {gamma_t} to {gamma_s}")
        self.gamma_t, self.gamma_s = float(gamma_t), float(gamma_s)
        with localcontext(prec=DIGITS):  # so that the floats are the same on every machine
            alpha_s, sigma_s = rounded_alpha_sigma(self.gamma_s)
            alpha_t, sigma_t, keeps = Decimal(0), Decimal(1), Decimal(0)  # keeps: 1 - c
            if math.isfinite(self.gamma_t):
                alpha_t, sigma_t = rounded_alpha_sigma(self.gamma_t)
                keeps = (Decimal(self.gamma_s) - Decimal(self.gamma_t)).exp()
            self.alpha_t, self.sigma_t, self.alpha_s, self.sigma_s = map(float, (alpha_t, sigma_t, alpha_s, sigma_s))
            self.c = float(1 - keeps)
            self.z_coef = float(alpha_s * keeps / alpha_t) if alpha_t else 0.0  # of z_t in the mean of q
            self.x_coef = float(alpha_s * (1 - keeps))  # and of x
            self.std_q = float(sigma_s * (1 - keeps).sqrt())
            self.gain = float(1 / keeps - 1) if keeps else math.inf  # expm1(gamma_t - gamma_s)

    @classmethod
    def stack(cls, steps: Sequence[Step], like: torch.Tensor) -> Step:
        """Transitions of a batch, one for each image: the coefficients are (B, 1, 1, 1) in ``like``'s dtype."""
        stacked = object.__new__(cls)
        for name in vars(steps[0]):
            values = torch.tensor([getattr(s, name) for s in steps], dtype=torch.float64)
            values = values if name.startswith("gamma") else values.to(like.dtype).view(-1, 1, 1, 1)
            setattr(stacked, name, values.to(like.device))
        return stacked

    def mean(self, z_t, x):
        """Mean of q(z_s | z_t, x); with x_hat for x, mean of p(z_s | z_t). Any shape."""
        return self.z_coef * z_t + self.x_coef * x

    def move_to_mean(self, z_t, x):
        """``mean`` in place of z_t, a tensor; x is used up."""
        z_t.mul_(self.z_coef).add_(x.mul_(self.x_coef))

    def x_hat(self, z_t, eps_hat, fused=False):
        """x_hat = (z_t - sigma_t eps_hat) / alpha_t, see ``x_from``."""
        return x_from(z_t, eps_hat, self.alpha_t, self.sigma_t, fused)

    def eps_hat(self, z_t, x_hat, fused=False):
        """eps_hat = (z_t - alpha_t x_hat) / sigma_t."""
        return eps_from(z_t, x_hat, self.alpha_t, self.sigma_t, fused)

    def delta(self, x, x_hat):
        """(mean_q - mean_p) / std_q; |delta|^2 = expm1(gamma_t - gamma_s) |eps - eps_hat|^2."""
        return (self.x_coef / self.std_q) * (x - x_hat)

    def flow(self, x_hat, eps_hat):
        """z_s on the probability-flow ODE, one DDIM step (Song et al. 2021, eq. 13 with sigma = 0)."""
        return self.alpha_s * x_hat + self.sigma_s * eps_hat


def kl_nats(delta_squared: Any, r: Any = 0.0) -> Any:
    """KL(q || p) per dimension in nats: 1/2 (ln(1 + r) + (1 + delta^2) / (1 + r) - 1); numpy arrays or tensors.

    With r = 0 (p has q's variance) it is delta^2 / 2; with r = E delta^2 its mean is 1/2 ln(1 + r).

    >>> float(kl_nats(0.5))
    0.25
    """
    log1p = torch.log1p(r) if isinstance(r, torch.Tensor) else np.log1p(r)
    return 0.5 * (log1p + (1 + delta_squared) / (1 + r) - 1)


def prior_kl_nats(x, alpha, sigma):
    """KL(q(z_T | x) || N(0, I)) per dimension in nats (the paper's L_T), shape of x; z_T = alpha x + sigma eps."""
    log = torch.log(sigma) if isinstance(sigma, torch.Tensor) else math.log(sigma)
    return 0.5 * (alpha**2 * x**2 + sigma**2 - 1) - log
