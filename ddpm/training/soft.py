"""Crops as cameras and scanners see at full resolution: softer than pictures that were reduced, and with grain.

Where training pictures are all reduced ones, a network finds too much detail in others.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

LARGEST = 2.0  # how many times a crop is enlarged at most
GRAIN = 4.0  # standard deviation of noise before that, grey levels, at most


def softened(crops: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """(n, 3, s, s) uint8 -> the same: of each a corner, with white noise, enlarged by a factor of its own."""
    size, dev = crops.shape[2], crops.device
    out = []
    for crop, (factor, grain) in zip(crops, torch.rand(len(crops), 2, generator=generator, device=dev).tolist()):
        side = max(1, round(size / LARGEST**factor))
        corner = crop[None, :, :side, :side].float()
        corner += GRAIN * grain * torch.randn(corner.shape, generator=generator, device=dev)
        out.append(F.interpolate(corner, (size, size), mode="bicubic", align_corners=False))
    return torch.cat(out).clamp_(0, 255).round_().to(torch.uint8)
