"""The last part of a lossless file: the very pixels, given z_0.

The chain leaves every decoder with its own z_0, in float32, equal to the encoder's but for rounding. It is rounded to a
grid of half a grey level, on which all agree (rounding.py). From there one float64 evaluation of the network gives
means and deviations that differ by 1e-9 at most between machines; they are rounded in their turn, and the pixels are
range-coded with integer probabilities (entropy.py). A checksum of the pixels is the last word: where a machine
is further off than all that allows for, nothing is shown. With an exact network (exact.py) all machines have the same
z_0, means and deviations, and there are no shifts.

    4 bytes   CRC-32 of the pixels
    1 byte    what is added to all deviations, eighths of an octave, plus 128
    rest      range-coded words: shifts of z_0, of means, of deviations; pixels
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable
from copy import deepcopy
from functools import lru_cache

import numpy as np
import torch

from codec.errors import DamagedFile
from codec.lossy.setting import Setting
from codec.randomness.streams import shared_noise
from ddpm.diffusion.gaussian import Step
from ddpm.diffusion.likelihood import LN2
from ddpm.models.model import DDPM

from .context import Sight
from .entropy import CHUNK, FRACTIONS, HALF, HIGHEST, LOWEST, OCTAVE, Reader, Writer
from .likelihood import mean_of_colours
from .part import PREFIX
from .rounding import BLOCK, choose_shifts, from_grid, shift_counts, to_grid

Z_GRID, Z_TOLERANCE, Z_UNSAFE = 0.5, 2.0**-9, 887  # grey levels; see shift_counts
MEAN_GRID, SCALE_GRID, TOLERANCE, UNSAFE = 1 / FRACTIONS, 1.0, 1e-6, 8
CHROMA = (1 << 33) - 1  # stream of shared noise for the colours of a grey picture
Agreed = tuple[np.ndarray, np.ndarray]  # grid points, and where they lie


class Pixels:
    """x given z_0 for pictures of one size. Encoder and decoder derive the same integers from their own z_0."""

    def __init__(self, setting: Setting):
        self.model, self.size, self.grey = setting.model, setting.size, setting.grey
        gamma = setting.plan.gammas[-1]
        self.step = Step(gamma, gamma - 1)
        self.unit = HALF / self.step.alpha_t  # grey levels in a unit of z_0
        self.context = setting.tables.of(setting.grey).context
        self.noise = None
        if setting.grey:
            height, width = setting.size
            self.noise = shared_noise(setting.seed, CHROMA, 3 * height * width).view(3, height, width).double()

    def coded(self, z: torch.Tensor) -> np.ndarray:
        """(3, H, W) -> (n,) float64: the part of z_0 that tells of x, in grey levels."""
        z = z.double().cpu()
        return ((z.mean(0) if self.grey else z) * self.unit).numpy().ravel()

    def picture(self, coded: np.ndarray) -> torch.Tensor:
        """The inverse of ``coded``: (n,) -> (3, H, W); what a grey picture says nothing of is shared noise."""
        if self.noise is None:
            return torch.from_numpy(coded).view(3, *self.size) / self.unit
        free = self.step.sigma_t * (self.noise - self.noise.sum(0) / 3)
        return torch.from_numpy(coded).view(1, *self.size) / self.unit + free

    @torch.inference_mode()
    def beliefs(self, coded: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """From the rounded z_0: mean (grey levels) and deviation (eighths of an octave) of each pixel, (n,) float64."""
        z = self.picture(coded)[None].to(self.model.device).contiguous(memory_format=torch.channels_last)
        del coded
        gamma = torch.tensor([self.step.gamma_t], dtype=torch.float64, device=z.device)
        eps_hat, log_m = exact(self.model)(z, gamma)
        x_hat, log_m = self.step.x_hat(z, eps_hat, fused=True)[0], log_m[0]
        del z, eps_hat  # large pictures need the room
        if self.grey:
            x_hat, log_m = mean_of_colours(x_hat, log_m)
        mean = x_hat.clamp_(-1, 1).add_(1).mul_(HALF)
        octaves = log_m.add_(self.step.gamma_t).div_(2).add_(math.log(HALF)).mul_(OCTAVE / LN2)
        return mean.cpu().numpy().ravel(), octaves.cpu().numpy().ravel()

    def settled(self, z: torch.Tensor, agree: Callable[[np.ndarray, float, float, int], Agreed]) -> list[np.ndarray]:
        """Means and scales on their grids, (n,) int each; ``agree`` writes or reads what makes both sides round alike.

        agree(values, spacing, tolerance, unsafe): the points of values, and what those lie at.
        """
        beliefs = self.beliefs(agree(self.coded(z), Z_GRID, Z_TOLERANCE, Z_UNSAFE)[1])
        return [agree(values, grid, TOLERANCE, UNSAFE)[0] for values, grid in zip(beliefs, (MEAN_GRID, SCALE_GRID))]

    def sight(self, means: np.ndarray, scales: np.ndarray) -> Sight:
        """The pixels under these beliefs, on the grids of entropy.py."""
        means = np.clip(means, 0, 255 * FRACTIONS)
        scales = scales if self.context is None else np.clip(scales, LOWEST, HIGHEST)
        return Sight(self.context, means, scales, (1, 1 if self.grey else 3, *self.size))


@lru_cache(maxsize=1)
def exact(model: DDPM) -> DDPM:
    """The model in float64."""
    return deepcopy(model).double()


def planes(x: np.ndarray) -> np.ndarray:
    """(H, W, 3) or (H, W) -> (n,), in the order of z."""
    return (x.transpose(2, 0, 1) if x.ndim == 3 else x).ravel()


def bias_of(groups: list[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> int:
    """How much wider than believed pixels (values, means, scales of each group) lie, -32 to 32 eighths of an octave."""
    total = count = 0
    for x, means, scales in groups:
        for i in range(0, len(x), CHUNK):
            some = slice(i, i + CHUNK)
            variance = 4.0 ** (scales[some] / OCTAVE) + 1 / 12  # of the pixel, with its rounding
            total += np.sum((x[some] - means[some] / FRACTIONS) ** 2 / variance)
        count += len(x)
    return int(np.clip(np.rint(OCTAVE / 2 * np.log2(max(total / count, 1e-9))), -32, 32))


def widened(scales: np.ndarray, bias: int) -> np.ndarray:
    """Deviations as ``Writer.pixels`` takes them, int16."""
    return np.clip(scales + np.int16(bias), LOWEST, HIGHEST)


def encode(pixels: Pixels, z: torch.Tensor, x: np.ndarray) -> bytes:
    """The lossless part for one picture: z (3, H, W) at the chain's end, x (H, W, 3) or (H, W) uint8."""
    out = Writer()

    def agree(values: np.ndarray, spacing: float, tolerance: float, unsafe: int) -> Agreed:
        shifts = choose_shifts(values, spacing, tolerance)
        out.counts(shifts, shift_counts(unsafe))
        points = to_grid(values, shifts, spacing)
        return points, from_grid(points, shifts, spacing)

    sight = pixels.sight(*pixels.settled(z, agree))
    groups = [tuple(v[0] for v in group) for group in sight.predictions(planes(x))]
    bias = bias_of(groups)
    for values, means, scales in groups:
        out.pixels(values, means, widened(scales, bias))
    return zlib.crc32(x.tobytes()).to_bytes(4, "big") + bytes([bias + 128]) + out.bytes()


def decode(pixels: Pixels, z: torch.Tensor, data: bytes) -> np.ndarray:
    """The picture, uint8 (H, W, 3) or (H, W). DamagedFile if it is not the one that was encoded."""
    if len(data) < PREFIX:
        raise DamagedFile("the lossless part is damaged")
    source = Reader(data[PREFIX:])

    def agree(values: np.ndarray, spacing: float, _tolerance: float, unsafe: int) -> Agreed:
        shifts = source.counts(-(-len(values) // BLOCK), shift_counts(unsafe))
        points = to_grid(values, shifts, spacing)
        return points, from_grid(points, shifts, spacing)

    sight = pixels.sight(*pixels.settled(z, agree))
    for group in sight.groups:
        means, scales = (v[0] for v in sight.predict(group))
        sight.update(group, source.pixels(means, widened(scales, data[4] - 128)))
    x = np.ascontiguousarray(sight.x[0, 0] if pixels.grey else sight.x[0].transpose(1, 2, 0))
    if zlib.crc32(x.tobytes()) != int.from_bytes(data[:4], "big"):
        raise DamagedFile("the pixels do not come out as they went in (checksum): other arithmetic, or damage")
    return x
