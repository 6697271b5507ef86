"""What a picture will cost, estimated before it is coded."""

from __future__ import annotations

import math

import numpy as np
import torch

from ddpm.diffusion.gaussian import kl_nats
from ddpm.diffusion.likelihood import LN2, to_unit

from .basis import Cosines
from .denoise import denoise
from .setting import Setting

PROBES = 8  # levels at which a picture is evaluated
PROBE_PIXELS = 1 << 16  # larger pictures are probed on tiles of about so many pixels in all, as the network sees them
TILE = 64  # pixels, likewise


def tiles(x: torch.Tensor, scale: int) -> torch.Tensor:
    """(B, 3, H, W) -> (B, N, 3, h, w): the picture itself if small, else an even grid of tiles of it."""
    height, width = x.shape[2:]
    most, tile = PROBE_PIXELS * scale**2, TILE * scale
    if height * width <= most or min(height, width) < tile:
        area = x[:, :, : max(1, most // min(width, most)), :most]
        return area.unsqueeze(1)
    side = math.isqrt(PROBE_PIXELS // TILE**2)
    rows = np.linspace(0, height - tile, side).astype(int)
    columns = np.linspace(0, width - tile, side).astype(int)
    return torch.stack([x[:, :, r : r + tile, c : c + tile] for r in rows for c in columns], 1)


@torch.inference_mode()
def probe(setting: Setting, pictures: torch.Tensor) -> np.ndarray:
    """(B, steps + 1): an estimate of the cumulative KL along the plan, in bits, of pictures (B, 3, H, W) uint8.

    At a few levels z_t is drawn from q(z_t | x), which an ideal channel would hand on, and the next step's KL is
    computed; between them it is interpolated in proportion to the model's reference. All pictures meet the same noise.
    """
    plan, model, tables = setting.plan, setting.model, setting.tables
    mean_bits = np.maximum(plan.ideal(), 1e-3)
    at = np.unique(np.linspace(0, plan.steps - 1, PROBES).round().astype(int))
    generator = torch.Generator().manual_seed(0)
    ratio = []
    for k in at:
        level = plan.stops[k]
        parts = to_unit(tiles(pictures, tables.scales[level]).to(model.device))
        basis = Cosines(tables, (parts.shape[3], parts.shape[4]), setting.grey)
        step = basis.step(plan.gammas[k], plan.gammas[k + 1])
        noise = torch.randn(parts.shape[1:], generator=generator).to(parts.device)
        seen = torch.stack([basis.seen(step, x, noise) for x in parts])
        found = (denoise(model, tables, level, stack) for stack in ([seen[:, 0]] if parts.shape[1] == 1 else seen))
        x_hats, ms = (torch.cat(v) for v in zip(*found))
        kl = [
            kl_nats(basis.delta(step, x, x_hat) ** 2, basis.extra_variance(level, step.gain, m)).double().mean()
            for x, x_hat, m in zip(parts, x_hats.view_as(parts), ms.view_as(parts))
        ]
        kl = torch.stack(kl).cpu().numpy() / LN2 * plan.dims
        ratio.append(np.maximum(kl, 1e-6) / mean_bits[k])
    log_ratio = np.log(np.stack(ratio, 1))
    between = np.stack([np.interp(np.arange(plan.steps), at, row) for row in log_ratio])
    bits = np.exp(between) * mean_bits
    return np.concatenate([np.zeros((len(pictures), 1)), np.cumsum(bits, 1)], 1)
