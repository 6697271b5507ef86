"""Pictures that no camera made: one colour, or rectangles on it, as on screens. So that a network of
photographs meets flat colour and sharp edges, too."""

from __future__ import annotations

import torch

MOST = 8  # rectangles of a picture


def drawn(n: int, size: int, generator: torch.Generator, device: torch.device | str = "cpu") -> torch.Tensor:
    """(n, 3, size, size) uint8: a third of one colour; on the others up to MOST rectangles, mostly thin."""

    def uniform(*shape):
        return torch.rand(*shape, generator=generator, device=device)

    # A third of the values are cut to the range of colours, so that black, white and pure colours are not rare.
    colours = (uniform(n, MOST + 1, 3, 1, 1) * 1.5 - 0.25).clamp(0, 1).mul(255).round().to(torch.uint8)
    count = ((uniform(n) * 1.5 - 0.5) * (MOST + 1)).clamp(min=0).floor()
    begin = uniform(n, MOST, 2) * size
    end = begin + 1 + uniform(n, MOST, 2) ** 3 * size
    at = torch.arange(size, device=device)
    inside = (at >= begin.floor()[..., None]) & (at < end.floor()[..., None])  # (n, MOST, 2, size)
    picture = colours[:, 0].expand(n, 3, size, size)
    for k in range(MOST):
        area = inside[:, k, 0, :, None] & inside[:, k, 1, None, :] & (k < count)[:, None, None]
        picture = torch.where(area[:, None], colours[:, k + 1], picture)
    return picture
