"""The precision of a network's convolutions, as those who evaluate it choose: that of the maps, or bfloat16.

``Rounded`` is what matrix units do, several times faster than float32: operands and results are rounded to bfloat16,
sums are float32. Machines without such units do the very same in float32, so that all agree but for the order of sums.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from ddpm.machine import has_fast_bf16


class Plain:
    """Convolutions in the precision of the maps."""

    def round(self, x: torch.Tensor) -> torch.Tensor:
        return x

    def dtype(self, x: torch.Tensor) -> torch.dtype:
        """That of ``round(x)``."""
        return x.dtype

    def sums(self, x: torch.Tensor) -> torch.dtype:
        """That of what ``conv`` gives of maps such as x."""
        return x.dtype

    def zero(self, layer) -> int:
        """What stands for 0 in the maps that ``layer`` reads."""
        return 0

    def put(self, room: torch.Tensor, x: torch.Tensor) -> None:
        """``round(x)`` into ``room``."""
        room.copy_(x)

    def conv(self, layer: nn.Conv2d, x: torch.Tensor, padding) -> torch.Tensor:
        """x (B, H, W, C), its rows and columns padded."""
        return self._conv(x, layer.weight, layer.bias, padding)

    def _conv(self, x, weight, bias, padding):
        return F.conv2d(x.permute(0, 3, 1, 2), weight, bias, padding=padding).permute(0, 2, 3, 1)


class Rounded(Plain):
    """Operands and results in bfloat16; ``native``: as maps of that type, else as float32 ones of such values."""

    def __init__(self, device: torch.device, native: bool | None = None):
        self.native = has_fast_bf16(device) if native is None else native
        self.layers: dict[nn.Conv2d, tuple[torch.Tensor, torch.Tensor]] = {}

    def round(self, x):
        x = x.bfloat16()
        return x if self.native else x.float()

    def dtype(self, x):
        return torch.bfloat16 if self.native else torch.float32

    def put(self, room, x):
        room.copy_(x if self.native else self.round(x))

    def conv(self, layer, x, padding):
        if layer not in self.layers:
            assert layer.bias is not None
            self.layers[layer] = self.round(layer.weight), self.round(layer.bias)
        return self.round(self._conv(self.round(x), *self.layers[layer], padding))
