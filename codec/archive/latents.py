"""Chains of latents z_T ... z_0 for bits-back: on levels of the model's schedule, or the steps of its lossy code.

Both say, in coordinates c (n,) float64 of a batch of pictures of one size, flat, what q and p know: of z_0 given x, of
z_t given z_s; of z_T, of z_s given z_t, of the pixels given z_0. Coordinates are orthonormal. n may rise from latent to
latent: of a band of which nothing has been sent yet there is none.
"""

from __future__ import annotations

from decimal import Decimal, localcontext
from itertools import pairwise

import numpy as np
import torch

from codec.errors import CodecError, NotExact
from codec.lossless.pixels import integers
from codec.lossy.basis import Cosines
from codec.lossy.denoise import denoise, seen_at
from codec.lossy.tables import CodingTables
from codec.randomness.streams import shared_noise
from ddpm.diffusion.bands import Bands
from ddpm.diffusion.gaussian import Step
from ddpm.diffusion.reverse import Reverse
from ddpm.diffusion.rounded import DIGITS
from ddpm.models.model import DDPM

from .gaussians import FINENESS

NOISE = (1 << 33) - 2  # stream of shared noise for what of z is never sent
GAMMAS = 2.0**-24  # grid of the levels of a schedule, so that the last digits of mathematics are rounded away

Gaussian = tuple[np.ndarray, np.ndarray | float]  # mean (n,) and standard deviation, (n,) or one


class ScheduleLatents:
    """T levels of the model's schedule. Each channel of a pixel by itself, of grey pictures too: C is 3.

    transitions: between z_T, ..., z_0. grid: the spacing of each of these. context: of pixels. ``shape`` is that of the
    batch, (B, C, H, W).
    """

    def __init__(self, model: DDPM, steps: int):
        """ValueError if the schedule has no such chain, NotExact if its network is not."""
        self.model = model
        if isinstance(model.schedule, Bands):
            raise CodecError(f"model {model.name}: with noise by frequency, archives have the steps of the lossy code")
        gammas = np.unique(np.rint(Reverse(model).levels(steps) / GAMMAS))[::-1] * GAMMAS
        check_exact(model)
        self.steps = [Step(float(t), float(s)) for t, s in pairwise(gammas)]
        self.transitions, self.grid = len(self.steps), grids(self.steps)
        self.context = CodingTables.context_of(self.model, grey=False)

    def first(self, x: np.ndarray) -> Gaussian:
        """q(z_0 | x) of pictures (B, C, H, W), -1 to 1."""
        return x.ravel() * self.steps[-1].alpha_s, self.steps[-1].sigma_s

    def forward(self, i: int, c: np.ndarray, shape) -> Gaussian:
        """q(z_t | z_s) of transition i."""
        step = self.steps[i]
        return c * (step.alpha_t / step.alpha_s), forward_std(step)

    def prior(self, shape) -> Gaussian:
        """p(z_T)."""
        return np.zeros(np.prod(shape)), 1.0

    def reverse(self, i: int, c: np.ndarray, shape) -> Gaussian:
        """p(z_s | z_t) of transition i."""
        step = self.steps[i]
        x_hat, m = seen_at(self.model, 1, step.gamma_t, self._z(c, shape))
        if self.model.variance == "learned":
            r = step.gain * flat(m)
        else:
            ratio = step.sigma_t / step.sigma_s
            r = ratio * ratio - 1 if self.model.variance == "beta" else 0.0
        return step.mean(c, flat(x_hat)), np.sqrt(1 + r) * step.std_q

    def pixels(self, c: np.ndarray, shape) -> tuple[np.ndarray, np.ndarray]:
        """p(x | z_0): means and scales, see ``codec.lossless.pixels.integers``."""
        return pixels(self.model, self.steps[-1], self._z(c, shape), grey=False)

    def _z(self, c, shape):
        return torch.from_numpy(c.astype(np.float32).reshape(shape)).to(self.model.device)


class CodeLatents:
    """The steps, resolutions and coordinates of the lossy code for pictures of one size, grey (C = 1) or not (C = 3).

    They are few for what they cost, and none is skipped, however small the pictures. What the code begins with, z_T as
    it is known of all pictures, is the prior. Methods as of ``ScheduleLatents``.
    """

    def __init__(self, model: DDPM, tables: CodingTables, size: tuple[int, int], grey: bool):
        self.model, self.tables, self.size, self.grey = model, tables, size, grey
        self.plan = tables.plan(size, grey, every_level=True)
        check_exact(model)
        self.basis, self.context = Cosines(tables, size, grey), tables.of(grey).context
        self.leading, *self.steps = [self.basis.step(t, s) for t, s in pairwise(self.plan.gammas)]
        self.transitions = len(self.steps)
        self.places = [self.basis.places(step.alpha_s > 0) for step in (self.leading, *self.steps)]
        self.grid = [self._over(i, spacing) for i, spacing in enumerate(grids(self.steps))]
        self.noise = shared_noise(0, NOISE, 3 * size[0] * size[1]).view(1, 3, *size).double()

    def first(self, x: np.ndarray) -> Gaussian:
        c, last = flat(self.basis.coordinates(torch.from_numpy(x).expand(-1, 3, -1, -1).double())), self.steps[-1]
        return c * self._over(-1, last.alpha_s, len(x)), self._over(-1, last.sigma_s, len(x))

    def forward(self, i: int, c: np.ndarray, shape) -> Gaussian:
        step, (t, s) = self.steps[i], self.places[i : i + 2]
        if len(t.band) < len(s.band):
            known = np.flatnonzero((step.alpha_t > 0)[s.band.numpy()])
            c = c.reshape(shape[0], -1)[:, known].ravel()
        return c * self._over(i, ratio(step), shape[0]), self._over(i, forward_std(step), shape[0])

    def prior(self, shape) -> Gaussian:
        z = torch.zeros(1, 3, *self.size, device=self.model.device)
        mean, std = self._reverse(0, self.leading, z, *denoise(self.model, self.tables, 0, z))
        return np.tile(mean, shape[0]), np.tile(std, shape[0])

    def reverse(self, i: int, c: np.ndarray, shape) -> Gaussian:
        z, seen = self._seen(i, c, shape)
        return self._reverse(i + 1, self.steps[i], z, *denoise(self.model, self.tables, self.plan.stops[i + 1], seen))

    def pixels(self, c: np.ndarray, shape) -> tuple[np.ndarray, np.ndarray]:
        return pixels(self.model, Step(*self.plan.gammas[-2:]), self._seen(self.transitions, c, shape)[1], self.grey)

    def _reverse(self, i: int, step, z, x_hat, m):
        """p(z_s | z_t) of latent i, the end of a step from z."""
        places, n = self.places[i], len(z)
        hat = places.of(self.basis.coordinates(x_hat.double()))
        r = places.of(self.basis.extra_variance(self.plan.stops[i], step.gain, m))
        mean = self._over(i, step.z_coef, n) * flat(places.of(z)) + self._over(i, step.x_coef, n) * flat(hat)
        return mean, np.sqrt(1 + flat(r)) * self._over(i, step.std_q, n)

    def _seen(self, i: int, c: np.ndarray, shape) -> tuple[torch.Tensor, torch.Tensor]:
        """Latent i with what is never sent of it, and what the network is shown of it; (B, 3, H, W)."""
        step = self.steps[i - 1] if i else self.leading
        z = self.basis.times(self.noise.repeat(shape[0], 1, 1, 1), step.sigma_s)
        self.places[i].put(z, torch.from_numpy(c).view(shape[0], -1))
        seen = self.basis.picture(z, self.basis.view(step.gamma_s)).float()
        return z.to(self.model.device), seen.to(self.model.device)

    def _over(self, i: int, weights: np.ndarray, count: int = 1) -> np.ndarray | float:
        """Numbers of the bands over the coordinates of latent i, of so many pictures; one if all are the same."""
        weights = np.asarray(weights)
        if (weights == weights[0]).all():
            return float(weights[0])
        return np.tile(weights[self.places[i].band.numpy()], count)


Latents = ScheduleLatents | CodeLatents


def ratio(step):
    """alpha_t / alpha_s, 0 of what z_t knows nothing of."""
    return step.alpha_t / np.where(step.alpha_s == 0, 1, step.alpha_s)


def forward_std(step):
    """Of q(z_t | z_s) = N(alpha_t / alpha_s z_s, sigma_t^2 c)."""
    return step.sigma_t * np.sqrt(step.c)


def grids(steps: list) -> list:
    """The spacing of z_T, ..., z_0: powers of two, 1/8 to 1/16 of the narrower of the two Gaussians that code each."""
    q = [*map(forward_std, steps), steps[-1].sigma_s]
    p = [steps[0].sigma_t, *(step.std_q for step in steps)]
    return [np.ldexp(0.5, np.frexp(np.minimum(a, b) / FINENESS)[1]) for a, b in zip(q, p)]


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
