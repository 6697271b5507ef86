"""Universal quantization: subtractive dither (Ziv 1985), for learned codecs Agustsson & Theis 2020, and for diffusion
models, whose q becomes uniform, Yang et al. 2025 (UQDM).

With u ~ U(-1/2, 1/2) shared, k = round(delta / w - u) is sent and y = w (k + u) held: y - delta ~ U(-w/2, w/2) whatever
delta, and independent of it. w = sqrt(12) gives it q's variance, 1. So no search is needed, but the target is

    delta + a uniform error, not a Gaussian one: zeta is a sample from another q.

Given u, k is coded under p = N(0, v) convolved with that uniform, v = E delta^2 known to both sides:

    P(k | u) = Phi((y + w/2) / sqrt(v)) - Phi((y - w/2) / sqrt(v))

On average that takes I(delta; delta + w U) bits. For small v it falls as sqrt(v), for a delta only
tells something where it carries the error over an edge, while the Gaussian channel's KL falls as v: the smaller a
dimension's share of the bits, the more of them are lost. For large v the loss is log2(2 pi e / 12) / 2 = 0.25 bits.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import log_ndtr

from ddpm.diffusion.likelihood import LN2

from .gaussian import DITHER, random, whole

WIDTH = math.sqrt(12)  # w


@dataclass(frozen=True, eq=False)
class Dithered:
    """D = len(r) dimensions; ``v`` (D,) or a number is E delta^2, which both sides know. Any number of bits."""

    r: np.ndarray
    v: np.ndarray | float
    seed: int = 0

    @property
    def dither(self) -> np.ndarray:
        """u, (D,)."""
        return random(DITHER, self.seed, 0).random(len(self.r)) - 0.5

    def encode(self, delta: np.ndarray) -> np.ndarray:
        """The integers k, (D,) int64."""
        return np.rint(delta / WIDTH - self.dither).astype(np.int64)

    def decode(self, k: np.ndarray) -> np.ndarray:
        """zeta: y in units of p's deviation, which is sqrt(1 + r) of q's."""
        return (WIDTH * (k + self.dither) / np.sqrt(1 + self.r)).astype(np.float32)

    def length(self, k: np.ndarray) -> int:
        return whole(bits(WIDTH * (k + self.dither), self.v).sum())


def bits(y: np.ndarray, v: np.ndarray | float) -> np.ndarray:
    """-log2 P(k | u) of y = w (k + u), to full precision far from 0 too."""
    std = np.sqrt(v)
    near, far = ((WIDTH / 2 - np.abs(y)) / std, (-WIDTH / 2 - np.abs(y)) / std)
    return -(log_ndtr(near) + np.log1p(-np.exp(log_ndtr(far) - log_ndtr(near)))) / LN2
