"""Chains of latents z_T ... z_0 for bits-back: on levels of the model's schedule, or the steps of its lossy code.

Both say, in coordinates c (n,) float64 of a batch of pictures of one size, flat, what p knows: of z_T, of z_s given
z_t, of the pixels given z_0. Coordinates are orthonormal, so q is the same in all of them.
"""

from __future__ import annotations

from decimal import Decimal, localcontext
from itertools import pairwise

import numpy as np
import torch

from codec.errors import CodecError, NotExact
from codec.lossless.pixels import integers
from codec.lossy.basis import Cosines, over
from codec.lossy.denoise import denoise, seen_at
from codec.lossy.tables import CodingTables
from codec.randomness.streams import shared_noise
from ddpm.diffusion.gaussian import Step
from ddpm.diffusion.reverse import Reverse
from ddpm.diffusion.rounded import DIGITS
from ddpm.models.model import DDPM

CHROMA = (1 << 33) - 2  # stream of shared noise for the colours of a grey picture
GAMMAS = 2.0**-24  # grid of the levels of a schedule, so that the last digits of mathematics are rounded away

Gaussian = tuple[np.ndarray, np.ndarray | float]  # mean (n,) and standard deviation, (n,) or one


class ScheduleLatents:
    """T levels of the model's schedule. Each channel of a pixel by itself, of grey pictures too: C is 3.

    steps: between z_T, ..., z_0. context: of pixels. ``shape`` is that of the batch, (B, C, H, W).
    """

    def __init__(self, model: DDPM, steps: int):
        """ValueError if the schedule has no such chain, NotExact if its network is not."""
        self.model = model
        gammas = np.unique(np.rint(Reverse(model).levels(steps) / GAMMAS))[::-1] * GAMMAS
        check_exact(model)
        self.steps = [Step(float(t), float(s)) for t, s in pairwise(gammas)]
        self.context = CodingTables.context_of(self.model, grey=False)

    def coordinates(self, x: np.ndarray) -> np.ndarray:
        """Of pictures (B, C, H, W), -1 to 1."""
        return x.ravel()

    def prior(self, shape) -> Gaussian:
        """p(z_T)."""
        return np.zeros(np.prod(shape)), 1.0

    def x_hat(self, i: int, c: np.ndarray, shape) -> Gaussian:
        """What p(z_s | z_t) of step i has for x, and r, how much wider than q it is: 1 + r times its variance."""
        step = self.steps[i]
        x_hat, m = seen_at(self.model, 1, step.gamma_t, self._z(c, shape))
        if self.model.variance == "learned":
            return flat(x_hat), step.gain * flat(m)
        ratio = step.sigma_t / step.sigma_s
        return flat(x_hat), ratio * ratio - 1 if self.model.variance == "beta" else 0.0

    def pixels(self, c: np.ndarray, shape) -> tuple[np.ndarray, np.ndarray]:
        """p(x | z_0): means and scales, see ``codec.lossless.pixels.integers``."""
        return pixels(self.model, self.steps[-1], self._z(c, shape), grey=False)

    def _z(self, c, shape):
        return torch.from_numpy(c.astype(np.float32).reshape(shape)).to(self.model.device)


class CodeLatents:
    """The steps, resolutions and coordinates of the lossy code for pictures of one size, grey (C = 1) or not (C = 3).

    They are few for what they cost, and none is skipped, however small the pictures. What the code begins with, z_T as
    it is known of all pictures, is the prior.
    """

    def __init__(self, model: DDPM, tables: CodingTables, size: tuple[int, int], grey: bool):
        self.model, self.tables, self.size, self.grey = model, tables, size, grey
        self.plan = tables.plan(size, grey, every_level=True)
        check_exact(model)
        if not tables.noise.even:
            raise CodecError(f"model {model.name}: there are no archives yet by models with noise by frequency")
        self.first, *self.steps = [Step(t, s) for t, s in pairwise(self.plan.gammas)]
        self.basis, self.context = Cosines(tables, size, grey), tables.of(grey).context
        noise = shared_noise(0, CHROMA, 3 * size[0] * size[1]).view(3, *size).double()
        self.noise = (noise - over(noise.sum(0), 3)) * grey

    def coordinates(self, x: np.ndarray) -> np.ndarray:
        return self._coordinates(torch.from_numpy(x).expand(-1, 3, -1, -1))

    def prior(self, shape) -> Gaussian:
        z = torch.zeros(1, 3, *self.size)
        mean, m = denoise(self.model, self.tables, 0, z.to(self.model.device))
        r = flat(self.basis.extra_variance(0, self._gain(self.first), m))
        mean = self.first.x_coef * self._coordinates(mean)
        return np.tile(mean, shape[0]), np.tile(self.first.std_q * np.sqrt(1 + r), shape[0])

    def x_hat(self, i: int, c: np.ndarray, shape) -> Gaussian:
        level, step = self.plan.stops[i + 1], self.steps[i]
        x_hat, m = denoise(self.model, self.tables, level, self._z(c, shape, step.sigma_t))
        return self._coordinates(x_hat), flat(self.basis.extra_variance(level, self._gain(step), m))

    def pixels(self, c: np.ndarray, shape) -> tuple[np.ndarray, np.ndarray]:
        last = self.steps[-1]
        return pixels(self.model, last, self._z(c, shape, last.sigma_s), self.grey)

    def _gain(self, step: Step) -> np.ndarray:
        return self.tables.step(step.gamma_t, step.gamma_s).gain

    def _coordinates(self, pictures):
        return flat(self.basis.coordinates(pictures.double()))

    def _z(self, c, shape, sigma):
        z = self.basis.picture(torch.from_numpy(c).view(shape)) + sigma * self.noise
        return z.float().to(self.model.device)


Latents = ScheduleLatents | CodeLatents


def check_exact(model: DDPM) -> None:
    """NotExact if the network answers every machine a little differently."""
    if model.exact is None:
        raise NotExact(model)


def pixels(model: DDPM, last: Step, z: torch.Tensor, grey: bool) -> tuple[np.ndarray, np.ndarray]:
    """p(x | z_0) of z (B, 3, H, W): means and scales; ``last`` is the step that led to it, see reverse.py."""
    gamma = last.gamma_s
    x_hat, m = seen_at(model, 1, gamma, z)
    if model.variance != "learned":
        with localcontext(prec=DIGITS):
            m.fill_(float(Decimal(last.std_q) ** 2 / Decimal(gamma).exp()))
    return integers(gamma, x_hat, m, grey)


def flat(values: torch.Tensor) -> np.ndarray:
    """(n,) float64."""
    return values.double().cpu().numpy().ravel()
