"""The forward process of a schedule: in which coordinates noise is added, how much of it, and what the network sees.

``Isotropic`` noise is the same in all of them, pixels are as good as any. ``Banded`` noise has a level for each band of
cosines, see bands.py; z and x are then in their coordinates, and a transition's coefficients are tensors that lie over
them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from . import cosines
from .bands import Bands
from .gaussian import Step
from .rounded import exp


class Isotropic:
    """Coordinates are pixels."""

    def step(self, gamma_t: float, gamma_s: float) -> Step:
        """The transition from one level to the next."""
        return Step(gamma_t, gamma_s)

    def over(self, step: Step, x: torch.Tensor) -> Step:
        """The transition with coefficients that lie over x (B, C, H, W)."""
        return step

    def coordinates(self, x: torch.Tensor) -> torch.Tensor:
        """Of pixels (B, C, H, W), of the same shape."""
        return x

    def pixels(self, z: torch.Tensor) -> torch.Tensor:
        """The inverse of ``coordinates``."""
        return z

    def seen(self, step: Step, z: torch.Tensor) -> torch.Tensor:
        """z_t in coordinates, at the start of a step that lies over it -> what the network is shown, in pixels."""
        return z

    def slope(self, step: Step) -> Any:
        """d SNR / d(-gamma) at the start of a step, for (x - x_hat)^2; a number or over x."""
        return (step.alpha_t / step.sigma_t) ** 2


class BandStep(Step):
    """One transition, with coefficients for each band, (BANDS,) float64, or ``over`` pictures, (B or 1, 3, H, W).

    gamma_t and gamma_s are t of the schedule; gamma_t may be infinite, as of ``Step``. A band of which nothing is sent
    yet has alpha 0 and sigma 1, and z_s that knows nothing of z_t. ``view`` and ``slope`` are those of ``Bands``, at
    gamma_t; ``gain`` is for m e^t, the squared error of x, and where t is infinite for that itself.
    """

    view: Any
    slope: Any

    def __init__(self, bands: Bands, t: float, s: float):
        if not s < t:
            raise ValueError(f"t must fall along a step, not go from {t} to {s}")
        self.gamma_t, self.gamma_s = float(t), float(s)
        snr_t, snr_s = bands.snr(t), bands.snr(s)
        sent = np.where(snr_s > 0, snr_s, 1.0)
        keeps = snr_t / sent  # 1 - c
        self.alpha_t, self.sigma_t, self.alpha_s, self.sigma_s = (
            np.sqrt(v) for snr in (snr_t, snr_s) for v in (snr / (1 + snr), 1 / (1 + snr))
        )
        self.c = 1 - keeps
        self.z_coef = self.alpha_s * np.sqrt(snr_t * (1 + snr_t)) / sent
        self.x_coef = self.alpha_s * self.c
        self.std_q = self.sigma_s * np.sqrt(np.maximum(self.c, 1e-12))  # delta divides by it
        self.gain = (snr_s - snr_t) * (exp(t) if np.isfinite(t) else 1.0)
        self.view = bands.view(t)
        self.slope = bands.snr_slope(t)

    def __repr__(self) -> str:
        return f"BandStep({self.gamma_t} -> {self.gamma_s})"

    @classmethod
    def stack(cls, steps: Sequence[Step], like: torch.Tensor) -> Step:
        """Transitions of a batch, one for each image: coefficients are (B, BANDS)."""
        stacked = object.__new__(cls)
        for name in vars(steps[0]):
            setattr(stacked, name, np.stack([getattr(step, name) for step in steps]))
        for name in ("gamma_t", "gamma_s"):
            setattr(stacked, name, torch.from_numpy(getattr(stacked, name)).to(like.device))
        return stacked


@dataclass(frozen=True)
class Level:
    """z = alpha x + sigma eps, ``view`` and ``slope`` as in ``BandStep``: all (B, 3, H, W)."""

    alpha: torch.Tensor
    sigma: torch.Tensor
    view: torch.Tensor
    slope: torch.Tensor


class Banded:
    """Coordinates are cosines."""

    def __init__(self, bands: Bands):
        self.bands = bands

    def step(self, gamma_t: float, gamma_s: float) -> BandStep:
        return BandStep(self.bands, gamma_t, gamma_s)

    def over(self, step: Step, x: torch.Tensor) -> Step:
        band = cosines.band_of(self.bands.block, (x.shape[2], x.shape[3])).long().to(x.device)
        spread = object.__new__(BandStep)
        for name, values in vars(step).items():
            if isinstance(values, np.ndarray):
                values = torch.from_numpy(values).to(x).view(-1, values.shape[-1])[:, band]
            setattr(spread, name, values)
        return spread

    def at(self, t: torch.Tensor, x: torch.Tensor) -> Level:
        """The levels t (B,) over x (B, 3, H, W)."""
        known = t.double().cpu().numpy()
        snr = self.bands.snr(known)
        parts = np.sqrt(snr / (1 + snr)), np.sqrt(1 / (1 + snr)), self.bands.view(known), self.bands.snr_slope(known)
        band = cosines.band_of(self.bands.block, (x.shape[2], x.shape[3])).long().to(x.device)
        return Level(*(torch.from_numpy(v).to(x)[:, band] for v in parts))

    def coordinates(self, x: torch.Tensor) -> torch.Tensor:
        return cosines.coordinates(x, self.bands.block)

    def pixels(self, z: torch.Tensor) -> torch.Tensor:
        return cosines.picture(z, self.bands.block)

    def seen(self, step: Step, z: torch.Tensor) -> torch.Tensor:
        assert isinstance(step, BandStep)
        return self.pixels(step.view * z)

    def slope(self, step: Step) -> Any:
        assert isinstance(step, BandStep)
        return step.slope


Process = Isotropic | Banded


def process_of(schedule) -> Process:
    """The forward process of a schedule."""
    return Banded(schedule) if isinstance(schedule, Bands) else Isotropic()
