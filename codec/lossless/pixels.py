"""The last part of a lossless file: the very pixels, given z_0.

The chain leaves encoder and decoder with the same z_0, of which the network says the same mean and deviation of each
pixel, to the last bit; rounded to the grids of entropy.py, they are what pixels are range-coded under. A checksum of
the pixels is the last word.

    4 bytes   CRC-32 of the pixels
    1 byte    what is added to all deviations, eighths of an octave, plus 128
    rest      range-coded words
"""

from __future__ import annotations

import zlib
from decimal import Decimal, localcontext
from functools import lru_cache

import numpy as np
import torch

from codec.errors import DamagedFile
from codec.lossy.basis import over
from codec.lossy.chain import mean_of_colours
from codec.lossy.denoise import seen_at
from codec.lossy.setting import Setting
from ddpm.diffusion.likelihood import UNIT_LEVELS
from ddpm.diffusion.rounded import DIGITS

from .context import Sight
from .entropy import CHUNK, FRACTIONS, HIGHEST, LOWEST, OCTAVE, Reader, Writer
from .part import PREFIX


@torch.inference_mode()
def sight_of(setting: Setting, z: torch.Tensor) -> Sight:
    """The pixels as they are believed in where the chain ends, at z (3, H, W)."""
    gamma = setting.plan.gammas[-1]
    means, scales = integers(gamma, *seen_at(setting.model, 1, gamma, z[None]), setting.grey)
    shape = (1, 1 if setting.grey else 3, *setting.size)
    return Sight(setting.tables.of(setting.grey).context, means, scales, shape)


def integers(gamma: float, x_hat: torch.Tensor, m: torch.Tensor, grey: bool) -> tuple[np.ndarray, np.ndarray]:
    """Of p(x | z) at a noise level, (n,) int32: means in sixteenths of a grey level, scales in eighths of an octave.

    x_hat (B, 3, H, W) float32, which is used up, and m, likewise, float64, as ``seen_at`` has them.
    """
    if grey:
        x_hat, m = mean_of_colours(x_hat), over(m.sum(1, keepdim=True), 9)
    means = (x_hat + 1).mul_(UNIT_LEVELS).mul_(FRACTIONS).round_().int()
    scales = np.searchsorted(edges(gamma), m.cpu().numpy().ravel(), side="right") + LOWEST
    return means.cpu().numpy().ravel(), scales.astype(np.int32)


@lru_cache
def edges(gamma: float) -> np.ndarray:
    """m from which a deviation is nearer to the next eighth of an octave: sigma/alpha sqrt(m), in grey levels."""
    with localcontext(prec=DIGITS):
        unit = Decimal(UNIT_LEVELS) ** 2 * Decimal(gamma).exp()  # sigma^2 / alpha^2 in squared grey levels
        halves = (Decimal(2 * k + 1) / OCTAVE for k in range(LOWEST, HIGHEST))
        return np.array([float((Decimal(2).ln() * half).exp() / unit) for half in halves])


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


def encode(setting: Setting, z: torch.Tensor, x: np.ndarray) -> bytes:
    """The lossless part for one picture: z (3, H, W) at the chain's end, x (H, W, 3) or (H, W) uint8."""
    out, sight = Writer(), sight_of(setting, z)
    groups = [tuple(v[0] for v in group) for group in sight.predictions(planes(x))]
    bias = bias_of(groups)
    for values, means, scales in groups:
        out.pixels(values, means, widened(scales, bias))
    return zlib.crc32(x.tobytes()).to_bytes(4, "big") + bytes([bias + 128]) + out.bytes()


def decode(setting: Setting, z: torch.Tensor, data: bytes) -> np.ndarray:
    """The picture, uint8 (H, W, 3) or (H, W). DamagedFile if it is not the one that was encoded."""
    if len(data) < PREFIX:
        raise DamagedFile("the lossless part is damaged")
    source, sight = Reader(data[PREFIX:]), sight_of(setting, z)
    for group in sight.groups:
        means, scales = (v[0] for v in sight.predict(group))
        sight.update(group, source.pixels(means, widened(scales, data[4] - 128)))
    x = np.ascontiguousarray(sight.x[0, 0] if setting.grey else sight.x[0].transpose(1, 2, 0))
    if zlib.crc32(x.tobytes()) != int.from_bytes(data[:4], "big"):
        raise DamagedFile("the pixels do not come out as they went in (checksum)")
    return x
