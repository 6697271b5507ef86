"""What a network sees of a noisy picture at a fraction of its size, for a fraction of the work.

The mean over s x s pixels, times s, keeps noise N(0, sigma^2 I) and multiplies the signal by s: rescaled it is the
picture s times smaller at gamma - 2 ln s.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F


def shrunk(x: torch.Tensor, scale: int) -> torch.Tensor:
    """Means over scale x scale pixels of (B, C, H, W); at the right and lower edges the last ones count again."""
    rows, columns = (-n % scale for n in x.shape[2:])
    return F.avg_pool2d(F.pad(x, (0, columns, 0, rows), mode="replicate") if rows or columns else x, scale)


def coarse(z: torch.Tensor, gamma: torch.Tensor, scale: int) -> tuple[torch.Tensor, torch.Tensor]:
    """z (B, C, H, W) at gamma (B,) -> the picture ``scale`` times smaller at its own gamma."""
    alpha2, sigma2 = torch.sigmoid(-gamma), torch.sigmoid(gamma)
    unit = scale / (scale**2 * alpha2 + sigma2).sqrt()
    return shrunk(z, scale) * unit.to(z).view(-1, 1, 1, 1), gamma - 2 * math.log(scale)


def enlarged(x: torch.Tensor, scale: int, size: Sequence[int]) -> torch.Tensor:
    """x (B, C, H, W) in a larger size, by linear interpolation."""
    x = F.interpolate(x, scale_factor=scale, mode="bilinear", align_corners=False)
    return x[..., : size[0], : size[1]]
