"""The last part of a lossless file, the very pixels: in context (pixels.py) of a chain that has gone all the way, which
is better where there is little to learn from; else one by one, by a mixture that learns (adaptive.py)."""

from __future__ import annotations

import numpy as np
import torch

from codec.lossy.setting import Setting

from . import adaptive, pixels


def encode(setting: Setting, k: int, z: torch.Tensor, x: np.ndarray) -> bytes:
    """The part for one picture: z (3, H, W) after k steps, as the network sees it, x (H, W, 3) or (H, W) uint8."""
    if k == setting.plan.steps:
        return pixels.encode(setting, z, x)
    return adaptive.encode(setting, k, z, x)


def decode(setting: Setting, k: int, z: torch.Tensor, data: bytes) -> np.ndarray:
    """The picture, uint8 (H, W, 3) or (H, W). DamagedFile if it is not the one that was encoded."""
    if k == setting.plan.steps:
        return pixels.decode(setting, z, data)
    return adaptive.decode(setting, k, z, data)
