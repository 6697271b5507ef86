"""Noise schedules as log-SNR: z_t = alpha_t x + sigma_t eps, gamma_t = log(sigma_t^2 / alpha_t^2) = -log SNR(t).

A chain runs through descending values of gamma, from gamma_max (noise, the paper's x_T) to gamma_min (x_1). A schedule
names the ends and the spacing in between; nothing else in the package depends on how "t" is numbered.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal, localcontext
from typing import ClassVar

import numpy as np

from .bands import Bands
from .rounded import DIGITS

DATA_STD = 0.5  # of images on [-1, 1]; sets the preconditioning of networks, as in Karras et al. 2022


def alpha_sigma(gamma):
    """alpha = sqrt(sigmoid(-gamma)) and sigma = sqrt(sigmoid(gamma)), float64; alpha^2 + sigma^2 = 1."""
    gamma = np.asarray(gamma, np.float64)
    return np.exp(-0.5 * np.logaddexp(0.0, gamma)), np.exp(-0.5 * np.logaddexp(0.0, -gamma))


def rounded_alpha_sigma(gamma: float) -> tuple[Decimal, Decimal]:
    """alpha and sigma of one finite gamma to ``DIGITS``, the same on every machine, as exp of its libraries is not."""
    with localcontext(prec=DIGITS):
        odds = Decimal(gamma).exp()  # sigma^2 / alpha^2
        return (1 / (1 + odds)).sqrt(), (odds / (1 + odds)).sqrt()


def unit_variance(gamma: float, data_std: float) -> float:
    """What brings z to unit variance, if x has that standard deviation."""
    with localcontext(prec=DIGITS):
        alpha, sigma = rounded_alpha_sigma(gamma)
        return float(1 / ((alpha * Decimal(data_std)) ** 2 + sigma**2).sqrt())


def guess_of_eps(gamma: float, data_std: float) -> tuple[float, float]:
    """c_skip, c_out: the best linear guess of eps is c_skip z, and c_out the standard deviation of what it leaves."""
    with localcontext(prec=DIGITS):
        alpha, sigma = rounded_alpha_sigma(gamma)
        power = (alpha * Decimal(data_std)) ** 2 + sigma**2
        return float(sigma / power), float(alpha * Decimal(data_std) / power.sqrt())


def x_hat_coefficients(gamma: float, data_std: float) -> tuple[float, float, float]:
    """x_hat = a z + b h, if eps_hat = c_skip z + c_out h as ``DDPM.forward`` has it: a, b, and c_out squared."""
    with localcontext(prec=DIGITS):
        alpha, sigma = rounded_alpha_sigma(gamma)
        power = (alpha * Decimal(data_std)) ** 2 + sigma**2
        of_z, of_h = alpha * Decimal(data_std) ** 2 / power, -sigma * Decimal(data_std) / power.sqrt()
        return float(of_z), float(of_h), float((alpha * Decimal(data_std)) ** 2 / power)


def smaller(gamma: float, scale: int) -> tuple[float, float]:
    """The gamma of a picture ``scale`` times smaller, each pixel the mean of scale^2, and what brings the mean of z to
    unit power: gamma - 2 ln scale, and scale / sqrt(scale^2 alpha^2 + sigma^2)."""
    with localcontext(prec=DIGITS):
        alpha, sigma = rounded_alpha_sigma(gamma)
        unit = scale / ((scale * alpha) ** 2 + sigma**2).sqrt()
        return float(Decimal(gamma) - 2 * Decimal(scale).ln()), float(unit)


@dataclass(frozen=True)
class LinearGamma:
    """gamma linear in t (Kingma et al. 2021): the bound is then a uniformly weighted eps-MSE."""

    kind: ClassVar[str] = "linear-gamma"
    gamma_max: float = 5.5
    gamma_min: float = -9.2

    def gammas(self, steps: int) -> np.ndarray:
        """The steps + 1 descending levels (float64) of a chain with that many transitions."""
        return np.linspace(self.gamma_max, self.gamma_min, steps + 1)


@dataclass(frozen=True)
class Cosine:
    """alpha_bar = f(t)/f(0), f(t) = cos^2((t + s)/(1 + s) pi/2) (Nichol & Dhariwal 2021, eq. 17), cut at the ends."""

    kind: ClassVar[str] = "cosine"
    gamma_max: float = 9.2
    gamma_min: float = -9.2
    s: float = 0.008

    def gammas(self, steps: int) -> np.ndarray:
        """The steps + 1 descending levels (float64), t evenly spaced, gamma cut to [gamma_min, gamma_max]."""
        f = np.cos((np.linspace(1, 0, steps + 1) + self.s) / (1 + self.s) * np.pi / 2) ** 2
        alpha_bar = np.clip(f / np.cos(self.s / (1 + self.s) * np.pi / 2) ** 2, 1e-300, 1 - 1e-15)
        gamma = np.clip(np.log1p(-alpha_bar) - np.log(alpha_bar), self.gamma_min, self.gamma_max)
        gamma[0], gamma[-1] = self.gamma_max, self.gamma_min
        return gamma


class Levels:
    """T values of gamma, from ``betas()``: alpha_bar_t = prod (1 - beta_s) over s <= t."""

    T: int

    def betas(self) -> np.ndarray:
        """beta_1 ... beta_T, float64."""
        raise NotImplementedError

    def all_gammas(self) -> np.ndarray:
        """gamma of x_T, ..., x_1 (T values, descending, float64)."""
        log_alpha_bar = np.cumsum(np.log1p(-self.betas()))
        return (np.log(-np.expm1(log_alpha_bar)) - log_alpha_bar)[::-1].copy()

    @property
    def gamma_max(self) -> float:
        return float(self.all_gammas()[0])

    @property
    def gamma_min(self) -> float:
        return float(self.all_gammas()[-1])

    def gammas(self, steps: int) -> np.ndarray:
        """steps + 1 of the T levels, evenly spaced in t and always both ends; steps <= T - 1, else ValueError."""
        if not 1 <= steps <= self.T - 1:
            raise ValueError(f"a chain on {self.T} levels has 1 to {self.T - 1} transitions, not {steps}")
        return self.all_gammas()[np.round(np.linspace(0, self.T - 1, steps + 1)).astype(int)]

    def spread(self, steps: int) -> np.ndarray:
        """At most steps + 1 of the T levels, as evenly spaced in gamma as they are dense, always both ends."""
        gamma = self.all_gammas()
        wanted = np.linspace(gamma[0], gamma[-1], steps + 1)
        return gamma[np.unique(np.abs(gamma - wanted[:, None]).argmin(1))]

    def timestep(self, gamma) -> np.ndarray:
        """gamma (any shape) -> t from 0 (x_1) to T - 1 (x_T), float64, linear in gamma between the levels, cut outside.

        At a level it is an exact integer, even if gamma is one that has been rounded a little, say to float32.
        """
        t = np.interp(np.asarray(gamma, np.float64), self.all_gammas()[::-1], np.arange(self.T))
        return np.where(np.abs(t - np.rint(t)) < 1e-3, np.rint(t), t)


@dataclass(frozen=True)
class LinearBeta(Levels):
    """The paper's schedule (Ho et al. 2020, section 4): beta_t linear from beta_1 to beta_T, T values of gamma."""

    kind: ClassVar[str] = "linear-beta"
    T: int = 1000
    beta_1: float = 1e-4
    beta_T: float = 0.02

    def betas(self) -> np.ndarray:
        return np.linspace(self.beta_1, self.beta_T, self.T)


@dataclass(frozen=True)
class Discrete(Levels):
    """The schedules of the diffusers project's DDPMScheduler, by its names; ValueError if they leave 0 < beta_t < 1.

    linear, scaled_linear (sqrt(beta_t) linear) and sigmoid go from beta_1 to beta_T; squaredcos_cap_v2 is Nichol &
    Dhariwal 2021, eq. 17, with beta_t <= 0.999; ``trained`` takes the values in ``given``.
    """

    kind: ClassVar[str] = "discrete"
    form: str = "linear"
    T: int = 1000
    beta_1: float = 1e-4
    beta_T: float = 0.02
    given: tuple[float, ...] = ()

    def __post_init__(self):
        beta = self.betas()
        if len(beta) != self.T or not ((beta > 0) & (beta < 1)).all():
            raise ValueError(f"no schedule of {self.T} steps: every beta lies between 0 and 1")

    def betas(self) -> np.ndarray:
        if not 2 <= self.T <= 100_000:
            raise ValueError(f"a schedule has 2 to 100000 steps, not {self.T}")
        if self.form == "linear":
            return np.linspace(self.beta_1, self.beta_T, self.T)
        if self.form == "scaled_linear":
            return np.linspace(self.beta_1**0.5, self.beta_T**0.5, self.T) ** 2
        if self.form == "sigmoid":
            return self.beta_1 + (self.beta_T - self.beta_1) / (1 + np.exp(-np.linspace(-6, 6, self.T)))
        if self.form == "squaredcos_cap_v2":
            alpha_bar = np.cos((np.arange(self.T + 1) / self.T + 0.008) / 1.008 * np.pi / 2) ** 2
            return np.minimum(1 - alpha_bar[1:] / alpha_bar[:-1], 0.999)
        if self.form == "trained":
            return np.asarray(self.given, np.float64)
        raise ValueError(f"unknown beta schedule {self.form!r}")


# With gamma_max, gamma_min, and gammas(steps) in between.
Schedule = LinearGamma | Cosine | LinearBeta | Discrete | Bands
SCHEDULES = {cls.kind: cls for cls in (LinearGamma, Cosine, LinearBeta, Discrete, Bands)}


def schedule_from_config(config: dict) -> Schedule:
    """The schedule described by ``{"kind": ..., **parameters}``; ValueError for an unknown kind."""
    parameters = dict(config)
    kind = parameters.pop("kind", None)
    if kind not in SCHEDULES:
        raise ValueError(f"unknown schedule {kind!r}; known: {', '.join(SCHEDULES)}")
    return SCHEDULES[kind](**parameters)
