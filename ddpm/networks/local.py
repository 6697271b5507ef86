"""A network for photographs of any size: what it says of a pixel depends on its neighbourhood alone.

A U-Net that works on pixels folded into channels, with few layers at high resolution, and with norms over the channels
of one position instead of over the picture. So it can be evaluated a few rows at a time (rows.py): the memory that a
picture takes beyond its own does not grow with it, and a large one is made without seams.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from .arithmetic import Plain
from .rows import Rolling, Whole
from .unet import gamma_embedding, zero

PLAIN = Plain()
WHOLE, STRIP = 1 << 19, 1 << 17  # pixels of a batch that is evaluated as a whole, at most; of a strip of a larger one


@dataclass(frozen=True)
class LocalConfig:
    """Channels of each level, half as fine as the one before; residual blocks there on the way down and up."""

    widths: tuple[int, ...] = (48, 96, 192)
    down: tuple[int, ...] = (2, 2, 2)
    up: tuple[int, ...] = (2, 2, 0)
    patch: int = 2  # p x p pixels become one position of the finest level
    fourier: tuple[int, ...] = (5, 6)
    channels: int = 3
    embedding: int = 64  # sines and cosines of gamma

    @property
    def stride(self) -> int:
        """Height and width of the input must be multiples of this."""
        return self.patch * 2 ** (len(self.widths) - 1)


class Block(nn.Module):
    """x + conv(SiLU(conv(norm(x)))), the norm scaled and shifted by what gamma says."""

    def __init__(self, c: int, c_emb: int):
        super().__init__()
        self.emb = nn.Linear(c_emb, 2 * c)
        self.conv1 = nn.Conv2d(c, c, 3, padding=1)
        self.conv2 = nn.Conv2d(c, c, 3, padding=1)
        for layer in (self.emb, self.conv2):
            zero(layer)

    def forward(self, x, emb, rows, arithmetic):
        scale, shift = self.emb(emb).chunk(2, -1)
        if len(emb) == 1:
            h = F.layer_norm(x, x.shape[-1:], 1 + scale[0], shift[0])
        else:
            h = torch.addcmul(shift[:, None, None], F.layer_norm(x, x.shape[-1:]), 1 + scale[:, None, None])
        h = F.silu(rows.conv3(self.conv1, h, arithmetic), inplace=True)
        return rows.add(self, x, rows.conv3(self.conv2, h, arithmetic))


def fold(x: torch.Tensor, p: int) -> torch.Tensor:
    """(B, p H, p W, C) -> (B, H, W, p p C)."""
    b, h, w, c = x.shape
    return x.view(b, h // p, p, w // p, p, c).transpose(2, 3).reshape(b, h // p, w // p, p * p * c)


def unfold(x: torch.Tensor, p: int) -> torch.Tensor:
    """(B, H, W, p p C) -> (B, p H, p W, C), the inverse of ``fold``."""
    b, h, w, c = x.shape
    return x.view(b, h, w, p, p, c // p**2).transpose(2, 3).reshape(b, h * p, w * p, c // p**2)


class Level(nn.Module):
    """Blocks, then all coarser levels, added to what they saw, then blocks. Maps are (B, H, W, C)."""

    def __init__(self, config: LocalConfig, i: int, c_emb: int):
        super().__init__()
        c = config.widths[i]
        self.down = nn.ModuleList(Block(c, c_emb) for _ in range(config.down[i]))
        self.coarser = None
        if i + 1 < len(config.widths):
            wide = config.widths[i + 1]
            self.shrink = nn.Linear(4 * c, wide)
            self.coarser = Level(config, i + 1, c_emb)
            self.grow = nn.Linear(wide, 4 * c, bias=False)
        self.up = nn.ModuleList(Block(c, c_emb) for _ in range(config.up[i]))

    def forward(self, x, emb, rows, arithmetic, then=None):
        """``then`` is what becomes of its map."""
        for block in self.down:
            x = block(x, emb, rows, arithmetic)
        if self.coarser:
            h = self.coarser(self.shrink(fold(rows.pairs(self, x), 2)), emb, rows, arithmetic)
            x = rows.add(self, x, unfold(self.grow(h), 2))

        def rest(x):
            for block in self.up:
                x = block(x, emb, rows, arithmetic)
            return then(x) if then else x

        return rows.in_parts(x, rest)


class LocalNet(nn.Module):
    """(B, C, H, W), gamma (B,) -> h_eps, h_m, both (B, C, H, W). H and W are multiples of ``config.stride``."""

    def __init__(self, config: LocalConfig):
        super().__init__()
        self.config = config
        c, c_emb, folded = config.widths[0], 128, config.channels * config.patch**2
        self.embed = nn.Sequential(nn.Linear(config.embedding, c_emb), nn.SiLU(), nn.Linear(c_emb, c_emb), nn.SiLU())
        self.first = nn.Conv2d((1 + 2 * len(config.fourier)) * folded, c, 3, padding=1)
        self.levels = Level(config, 0, c_emb)
        self.last = nn.Conv2d(c, 2 * folded, 3, padding=1)
        zero(self.last)

    def features(self, z, scale):
        """z at unit variance and its Fourier features, (B, H, W, C), folded by ``patch``."""
        z = z.permute(0, 2, 3, 1)
        waves = [wave(2.0**n * math.pi * z) for n in self.config.fourier for wave in (torch.sin, torch.cos)]
        return fold(torch.cat([z * scale, *waves], -1), self.config.patch)

    def forward(self, z, gamma, scale):
        emb = self.embed(gamma_embedding(gamma, self.config.embedding, z.dtype))
        height, row = z.shape[2], len(z) * z.shape[3]
        if torch.is_grad_enabled() or row * height <= WHOLE:
            return self.maps(z, emb, scale, Whole()).chunk(2, 1)
        strip = max(1, STRIP // (row * self.config.stride)) * self.config.stride
        rows, out, done = Rolling(STRIP // self.config.patch**2), z.new_empty(len(z), 2 * z.shape[1], *z.shape[2:]), 0
        for top in range(0, height, strip):
            rows.last = top + strip >= height
            maps = self.maps(z[:, :, top : top + strip], emb, scale, rows)
            out[:, :, done : done + maps.shape[2]] = maps
            done += maps.shape[2]
        return out.chunk(2, 1)

    def maps(self, z, emb, scale, rows, arithmetic=PLAIN):
        """h_eps and h_m in one, (B, 2 C, H, W)."""
        x = rows.conv3(self.first, self.features(z, scale), arithmetic)
        x = self.levels(x, emb, rows, arithmetic, lambda x: rows.conv3(self.last, x, arithmetic))
        return unfold(x.to(z.dtype), self.config.patch).permute(0, 3, 1, 2)
