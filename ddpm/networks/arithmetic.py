"""How a network's convolutions are computed, as ``rows.conv3`` asks: in floats here, of integers in ddpm/exact."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


class Plain:
    """Convolutions in the precision of the maps."""

    def dtype(self, x: torch.Tensor) -> torch.dtype:
        """Of maps that a layer reads."""
        return x.dtype

    def sums(self, x: torch.Tensor) -> torch.dtype:
        """That of what ``conv`` gives of maps such as x."""
        return x.dtype

    def zero(self, layer) -> int:
        """What stands for 0 in the maps that ``layer`` reads."""
        return 0

    def put(self, room: torch.Tensor, x: torch.Tensor) -> None:
        """x into ``room``."""
        room.copy_(x)

    def conv(self, layer: nn.Conv2d, x: torch.Tensor, padding) -> torch.Tensor:
        """x (B, H, W, C), its rows and columns padded."""
        return F.conv2d(x.permute(0, 3, 1, 2), layer.weight, layer.bias, padding=padding).permute(0, 2, 3, 1)
