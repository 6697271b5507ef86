"""What a step of training sees: random crops of the pictures at several scales, cut on the device."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from ddpm.images.data import load_images

from .settings import TrainConfig
from .soft import softened
from .synthetic import drawn


class Crops:
    """Random square crops, flipped left-right at random, drawn on the device from all pictures at several scales.

    Pictures lie in one flat uint8 tensor; a batch is one gather. A picture is chosen in proportion to the number of its
    crop positions, a scale by ``weights``; a share ``share_drawn`` of the crops are of synthetic.py, a
    share ``share_soft`` of the others go through soft.py.
    """

    def __init__(
        self,
        images: Sequence[np.ndarray],
        size: int,
        scales: Sequence[int] = (1,),
        weights: Sequence[float] | None = None,
        *,
        device: torch.device | str = "cpu",
        share_drawn: float = 0.0,
        share_soft: float = 0.0,
    ):
        flat, table, share = [], [], []
        weights = weights or [1.0] * len(scales)
        offset = 0
        for scale, weight in zip(scales, weights):
            scaled = [box_mean(im, scale) if scale > 1 else im for im in images]
            scaled = [im for im in scaled if min(im.shape[:2]) >= size]
            positions = np.array([(im.shape[0] - size + 1) * (im.shape[1] - size + 1) for im in scaled], float)
            if not len(scaled):
                raise ValueError(f"no picture holds a {size}x{size} crop at scale 1/{scale}")
            share.append(weight * positions / positions.sum())
            for im in scaled:
                table.append((offset, *im.shape[:2]))
                flat.append(torch.from_numpy(im.flatten()))
                offset += im.size
        self.size, self.device = size, torch.device(device)
        self.share_drawn, self.share_soft = share_drawn, share_soft
        self.pixels = torch.cat(flat).to(device)
        self.table = torch.tensor(table, device=device)
        self.share = torch.tensor(np.concatenate(share), device=device)

    def sample(self, n: int, generator: torch.Generator) -> torch.Tensor:
        """(n, 3, size, size) uint8."""
        dev, size = self.device, self.size
        offset, h, w = self.table[torch.multinomial(self.share, n, replacement=True, generator=generator)].T
        u = torch.rand(3, n, generator=generator, device=dev, dtype=torch.float64)
        y = (u[0] * (h - size + 1)).long()
        x = (u[1] * (w - size + 1)).long()
        i = torch.arange(size, device=dev)
        column = torch.where((u[2] < 0.5)[:, None], i, size - 1 - i) + x[:, None]
        row = i + y[:, None]
        index = offset[:, None, None] + 3 * (row[:, :, None] * w[:, None, None] + column[:, None, :])
        crops = torch.stack([self.pixels[index + c] for c in range(3)], 1)
        if self.share_soft:
            chosen = torch.rand(n, generator=generator, device=dev) < self.share_soft
            if chosen.any():
                crops[chosen] = softened(crops[chosen], generator)
        if self.share_drawn:
            chosen = torch.rand(n, generator=generator, device=dev) < self.share_drawn
            crops = torch.where(chosen[:, None, None, None], drawn(n, size, generator, dev), crops)
        return crops


def box_mean(image: np.ndarray, k: int) -> np.ndarray:
    """Mean of k x k boxes, rounded to uint8; odd rows and columns at the far edges are dropped."""
    h, w = image.shape[0] // k, image.shape[1] // k
    return image[: h * k, : w * k].reshape(h, k, w, k, 3).mean((1, 3)).round().astype(np.uint8)


def crops_for(
    config: TrainConfig, device: torch.device | str, images: Sequence[np.ndarray] | None = None
) -> list[Crops]:
    """One for each size. The first must find pictures at all scales; for others, scales without any are left out."""
    if images is None:
        images = load_images(config.data, config.tile, config.exclude)
    largest = max(min(im.shape[:2]) for im in images)
    sizes = (config.crop,) if isinstance(config.crop, int) else config.crop
    weights = dict(zip(config.scales, config.scale_weights or [1.0] * len(config.scales)))
    found = []
    for size in sizes:
        fit = {scale: weight for scale, weight in weights.items() if not found or largest // scale >= size}
        shares = {"share_drawn": config.drawn, "share_soft": config.soft}
        found.append(Crops(images, size, [*fit], [*fit.values()], device=device, **shares))
    return found
