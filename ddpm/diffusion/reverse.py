"""p(z_s | z_t) and p(x | z_0): the reverse process of a model, with the variance that one gives it.

The mean is always that of q with x_hat in the place of x. The variance is q's times 1 + r:

    beta-tilde   r = 0: the paper's lower choice, the variance of q(z_s | z_t, x) itself
    beta         r = sigma_t^2 / sigma_s^2 - 1: the paper's upper choice, the variance of q(z_t | z_s)
    learned      r = expm1(gamma_t - gamma_s) m: for each pixel, what the network expects of its own error

(Ho et al. 2020, section 3.2.) The last move, from z_0 to pixels, is the discretized Gaussian of eq. 13 about x_hat. Its
variance is learned too, or as in the paper's code that of q in the move to z_0 from the level before: beta-tilde would
be zero for a move to x itself, which gives no likelihood at all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from .gaussian import Step, x_from
from .looks import coarse, enlarged
from .process import BandStep, Process, process_of

VARIANCES = ("learned", "beta", "beta-tilde")


@dataclass(frozen=True)
class Reverse:
    """The reverse process of ``model``: z (B, C, H, W), gamma (B,) -> eps_hat, log m, both like z; it has a schedule.

    variance and clip are the model's own unless given; ValueError for "learned" where it has none. clip: x_hat is cut
    to the range of images, [-1, 1]. autocast: the network computes in bfloat16 where torch sees fit, faster and less
    exactly.
    """

    model: Any
    variance: str | None = None
    clip: bool | None = None
    autocast: bool = False

    def __post_init__(self):
        own = getattr(self.model, "variance", "learned")
        if self.variance is None:
            object.__setattr__(self, "variance", own)
        if self.clip is None:
            object.__setattr__(self, "clip", getattr(self.model, "clip", True))
        if self.variance == "learned" != own:
            raise ValueError("this model does not say how sure it is of a pixel: its variance is beta or beta-tilde")
        if self.variance not in VARIANCES:
            raise ValueError(f"unknown variance {self.variance!r}; known: {', '.join(VARIANCES)}")

    def levels(self, steps: int) -> np.ndarray:
        """The descending gammas (float64) of T = ``steps`` levels of the model's schedule; equal ones count once.

        ValueError if the schedule has no such chain.
        """
        if steps < 2:
            raise ValueError("a chain has at least two levels of noise")
        return np.unique(self.model.schedule.gammas(steps - 1))[::-1]

    @property
    def process(self) -> Process:
        """The forward process that it reverses."""
        return process_of(self.model.schedule)

    def evaluate(self, step: Step, z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """x_hat, log m, eps_hat at z_t (B, C, H, W), the start of ``step``, which lies over it; all in the coordinates
        of the process. eps_hat agrees with x_hat."""
        if isinstance(step, BandStep):
            return self._evaluate_bands(step, z)
        eps_hat, log_m = self.network(step.gamma_t, z)
        x_hat = step.x_hat(z, eps_hat)
        if self.clip:
            x_hat = x_hat.clamp(-1, 1)
            eps_hat = step.eps_hat(z, x_hat)
        return x_hat, log_m, eps_hat

    def network(self, gamma, z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """eps_hat and log m of pixels z (B, C, H, W) with isotropic noise of one gamma, or of one for each."""
        gamma = torch.as_tensor(gamma, dtype=torch.float64, device=z.device).expand(len(z))
        with torch.autocast(z.device.type, torch.bfloat16, enabled=self.autocast):
            return self.model(z.contiguous(memory_format=torch.channels_last), gamma)

    def _evaluate_bands(self, step: BandStep, z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """m is the mean over a block."""
        process, block, size = self.process, self.model.schedule.block, z.shape[2:]
        seen, x_hat, m = process.seen(step, z), torch.empty_like(z), torch.empty_like(z)
        t = torch.as_tensor(step.gamma_t, dtype=torch.float64).expand(len(z))
        scales = torch.tensor([self.model.schedule.scale(float(of_one)) for of_one in t])
        for scale in scales.unique().tolist():
            at = (scales == scale).nonzero()[:, 0].to(z.device)
            x_hat[at], m[at] = self.look(t[at].to(z.device), seen[at], scale)
        of_blocks = F.avg_pool2d(m.mean(1, keepdim=True), block, ceil_mode=True)
        m = of_blocks.repeat_interleave(block, 2).repeat_interleave(block, 3)[:, :, : size[0], : size[1]]
        x_hat = process.coordinates(x_hat)
        return x_hat, m.log().expand_as(x_hat), step.eps_hat(z, x_hat)

    def look(self, t: torch.Tensor, z: torch.Tensor, scale: int) -> tuple[torch.Tensor, torch.Tensor]:
        """x_hat and m of pixels z (B, C, H, W) with noise of t (B,), seen so many times smaller."""
        small, below = coarse(z, t, scale) if scale > 1 else (z, t)
        eps_hat, log_m = self.network(below, small)
        below, m = below.to(z).view(-1, 1, 1, 1), log_m.exp() / scale**2
        x_hat = x_from(small, eps_hat, torch.sigmoid(-below).sqrt(), torch.sigmoid(below).sqrt())
        if self.clip:
            x_hat = x_hat.clamp(-1, 1)
        return (enlarged(x_hat, scale, z.shape[2:]), enlarged(m, scale, z.shape[2:])) if scale > 1 else (x_hat, m)

    def extra_variance(self, step: Step, log_m: torch.Tensor):
        """r: p has 1 + r times the variance of q. A tensor, or a number if it is the same everywhere."""
        if self.variance == "learned":
            return step.gain * log_m.exp()
        return step.sigma_t**2 / step.sigma_s**2 - 1 if self.variance == "beta" else 0.0

    def predict(self, step: Step, z: torch.Tensor):
        """x_hat and r for the move z_t -> z_s."""
        x_hat, log_m, _ = self.evaluate(step, z)
        return x_hat, self.extra_variance(step, log_m)

    def pixels(self, last: Step, z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and log of the standard deviation of p(x | z_0), of pixels, where all noise is equal again; ``last`` is
        the step that led to z_0."""
        here = Step(last.gamma_s, last.gamma_s - 1)  # any step from z_0 has the same x_hat
        z = self.process.pixels(z)
        eps_hat, log_m = self.network(here.gamma_t, z)
        x_hat = here.x_hat(z, eps_hat)
        if self.clip:
            x_hat = x_hat.clamp(-1, 1)
        if self.variance == "learned":
            return x_hat, 0.5 * (log_m + here.gamma_t)
        std = float(last.std_q.square().mean().sqrt()) if isinstance(last, BandStep) else last.std_q
        return x_hat, torch.full_like(x_hat, std).log()
