"""Chains of latents z_T ... z_0 for bits-back: on levels of the model's schedule, or the steps of its lossy code.

Both say, in coordinates c (n,) float64 of a batch of pictures of one size, flat, what p knows: of z_T, of z_s given
z_t, of the pixels given z_0. Coordinates are orthonormal, so q is the same in all of them.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch

from codec.lossless.likelihood import pixels
from codec.lossy.basis import Cosines
from codec.lossy.denoise import denoise
from codec.lossy.tables import CodingTables
from codec.randomness.streams import shared_noise
from ddpm.diffusion.gaussian import Step
from ddpm.diffusion.reverse import Reverse
from ddpm.models.model import DDPM

CHROMA = (1 << 33) - 2  # stream of shared noise for the colours of a grey picture

Gaussian = tuple[np.ndarray, np.ndarray | float]  # mean (n,) and standard deviation, (n,) or one


class ScheduleLatents:
    """T levels of the model's schedule. Each channel of a pixel by itself, of grey pictures too: C is 3.

    steps: between z_T, ..., z_0. context: of pixels. ``shape`` is that of the batch, (B, C, H, W).
    """

    def __init__(self, reverse: Reverse, steps: int):
        """ValueError if the schedule has no such chain."""
        self.reverse = reverse
        self.steps = [Step(float(t), float(s)) for t, s in pairwise(reverse.levels(steps))]
        self.context = CodingTables.context_of(reverse.model, grey=False)

    def coordinates(self, x: np.ndarray) -> np.ndarray:
        """Of pictures (B, C, H, W), -1 to 1."""
        return x.ravel()

    def prior(self, shape) -> Gaussian:
        """p(z_T)."""
        return np.zeros(np.prod(shape)), 1.0

    def x_hat(self, i: int, c: np.ndarray, shape) -> Gaussian:
        """What p(z_s | z_t) of step i has for x, and r, how much wider than q it is: 1 + r times its variance."""
        x_hat, r = self.reverse.predict(self.steps[i], self._z(c, shape))
        return flat(x_hat), flat(r) if isinstance(r, torch.Tensor) else r

    def pixels(self, c: np.ndarray, shape) -> tuple[np.ndarray, np.ndarray]:
        """p(x | z_0): mean, and log of the standard deviation."""
        mean, log_std = self.reverse.pixels(self.steps[-1], self._z(c, shape))
        return flat(mean), flat(log_std)

    def _z(self, c, shape):
        return torch.from_numpy(c.astype(np.float32).reshape(shape)).to(self.reverse.model.device)


class CodeLatents:
    """The steps, resolutions and coordinates of the lossy code for pictures of one size, grey (C = 1) or not (C = 3).

    They are few for what they cost, and none is skipped, however small the pictures. What the code begins with, z_T as
    it is known of all pictures, is the prior.
    """

    def __init__(self, model: DDPM, tables: CodingTables, size: tuple[int, int], grey: bool):
        self.model, self.tables, self.reverse, self.size, self.grey = model, tables, Reverse(model), size, grey
        self.plan = tables.plan(size, grey, every_level=True)
        self.first, *self.steps = [Step(t, s) for t, s in pairwise(self.plan.gammas)]
        self.basis, self.context = Cosines(tables, size, grey), tables.of(grey).context
        noise = shared_noise(0, CHROMA, 3 * size[0] * size[1]).view(3, *size).double()
        self.noise = (noise - noise.mean(0)) * grey

    def coordinates(self, x: np.ndarray) -> np.ndarray:
        return self._coordinates(torch.from_numpy(x).expand(-1, 3, -1, -1))

    def prior(self, shape) -> Gaussian:
        z = torch.zeros(1, 3, *self.size)
        mean, m = denoise(self.model, self.tables, 0, z.to(self.model.device))
        r = flat(self.basis.extra_variance(0, self.first, m))
        mean = self.first.x_coef * self._coordinates(mean)
        return np.tile(mean, shape[0]), np.tile(self.first.std_q * np.sqrt(1 + r), shape[0])

    def x_hat(self, i: int, c: np.ndarray, shape) -> Gaussian:
        level, step = self.plan.stops[i + 1], self.steps[i]
        x_hat, m = denoise(self.model, self.tables, level, self._z(c, shape, step.sigma_t))
        return self._coordinates(x_hat), flat(self.basis.extra_variance(level, step, m))

    def pixels(self, c: np.ndarray, shape) -> tuple[np.ndarray, np.ndarray]:
        last = self.steps[-1]
        mean, log_std = pixels(self.reverse, last, self._z(c, shape, last.sigma_s), self.grey)
        return flat(mean), flat(log_std)

    def _coordinates(self, pictures):
        return flat(self.basis.coordinates(pictures.double()))

    def _z(self, c, shape, sigma):
        z = self.basis.picture(torch.from_numpy(c).view(shape[0], -1)) + sigma * self.noise
        return z.float().to(self.model.device)


Latents = ScheduleLatents | CodeLatents


def flat(values: torch.Tensor) -> np.ndarray:
    """(n,) float64."""
    return values.double().cpu().numpy().ravel()
