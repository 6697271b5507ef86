"""The network: a U-Net (Ho et al. 2020, appendix B) conditioned on gamma, made of few kinds of operation.

Convolution, group norm, SiLU, scale-shift and (where the map is small) one head of attention. It sees z, scaled to
unit variance, beside Fourier features sin, cos(2^n pi z) (Kingma et al. 2021, appendix C), and returns two maps, h_eps
and h_m.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

CACHED = 1 << 16  # pixels of a batch that a CPU evaluates together: of more the maps leave its caches


@dataclass(frozen=True)
class UNetConfig:
    """Sizes of the network. ``patch`` > 1 folds p x p pixels into channels before the first convolution."""

    base: int = 32
    multipliers: tuple[int, ...] = (1, 2, 2, 2)
    blocks: tuple[int, ...] = (2, 2, 2, 2)  # residual blocks per level on the way down; one more on the way up
    attention: tuple[int, ...] = (2,)  # levels (0 = finest) whose blocks are followed by attention
    patch: int = 1
    fourier: tuple[int, ...] = (5, 6)
    channels: int = 3
    groups: int = 8
    embedding: int = 64  # sines and cosines of gamma
    scale_shift: bool = True  # gamma scales and shifts each block's middle; else it only shifts, as in the paper
    dropout: float = 0.0  # while training

    @property
    def stride(self) -> int:
        """Height and width of the input must be multiples of this."""
        return self.patch * 2 ** (len(self.multipliers) - 1)


def gamma_embedding(gamma: torch.Tensor, width: int, dtype=torch.float32) -> torch.Tensor:
    """(B,) log-SNR -> (B, width): sin and cos of gamma at geometrically spaced frequencies, 0.1 to 10 rad per unit."""
    f = torch.logspace(-1, 1, width // 2, device=gamma.device, dtype=dtype)
    phase = gamma.to(dtype)[:, None] * f
    return torch.cat([phase.sin(), phase.cos()], 1)


def zero(layer: nn.Conv2d | nn.Linear) -> None:
    """Weight and bias are 0 at first."""
    for p in layer.parameters():
        nn.init.zeros_(p)


def with_attention(blocks: nn.Module, attend: nn.Module) -> Iterable[tuple[nn.Module, nn.Module]]:
    """The blocks of a level, each with the attention that follows it."""
    assert isinstance(blocks, nn.ModuleList)
    assert isinstance(attend, nn.ModuleList)
    return zip(blocks, attend)


class ResBlock(nn.Module):
    """x + conv(SiLU(norm(conv(SiLU(norm(x)))))), where the gamma embedding speaks in the middle.

    It scales and shifts what the second norm gives, or is added before it (Ho et al. 2020).
    """

    def __init__(self, c_in: int, c_out: int, c_emb: int, config: UNetConfig):
        super().__init__()
        groups, self.scale_shift = config.groups, config.scale_shift
        self.norm1 = nn.GroupNorm(groups, c_in)
        self.conv1 = nn.Conv2d(c_in, c_out, 3, padding=1)
        self.emb = nn.Linear(c_emb, (1 + self.scale_shift) * c_out)
        self.norm2 = nn.GroupNorm(groups, c_out)
        self.dropout = nn.Dropout(config.dropout)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, padding=1)
        self.skip = nn.Conv2d(c_in, c_out, 1) if c_in != c_out else nn.Identity()
        zero(self.conv2)

    def forward(self, x, emb):
        h = self.conv1(F.silu(self.norm1(x), inplace=True))
        said = self.emb(emb)[:, :, None, None]
        if self.scale_shift:
            scale, shift = said.chunk(2, 1)
            h = torch.addcmul(shift, self.norm2(h), 1 + scale)
        else:
            h = self.norm2(h + said)
        return self.conv2(self.dropout(F.silu(h, inplace=True))).add_(self.skip(x))


class Attention(nn.Module):
    """One head of self-attention over the positions of a small map."""

    def __init__(self, c: int, groups: int):
        super().__init__()
        self.norm = nn.GroupNorm(groups, c)
        self.qkv = nn.Conv2d(c, 3 * c, 1)
        self.out = nn.Conv2d(c, c, 1)
        zero(self.out)

    def forward(self, x):
        b, c, h, w = x.shape
        q, k, v = self.qkv(self.norm(x)).flatten(2).transpose(1, 2).chunk(3, 2)
        y = F.scaled_dot_product_attention(q, k, v)
        return x + self.out(y.transpose(1, 2).reshape(b, c, h, w))


class UNet(nn.Module):
    """(B, C, H, W), gamma (B,) -> h_eps, h_m, both (B, C, H, W). H and W are multiples of ``config.stride``."""

    def __init__(self, config: UNetConfig):
        super().__init__()
        self.config = config
        c_emb, groups = 4 * config.base, config.groups
        widths = [config.base * m for m in config.multipliers]
        c_in = config.channels * (1 + 2 * len(config.fourier)) * config.patch**2
        c_out = 2 * config.channels * config.patch**2

        self.embed = nn.Sequential(nn.Linear(config.embedding, c_emb), nn.SiLU(), nn.Linear(c_emb, c_emb), nn.SiLU())
        self.first = nn.Conv2d(c_in, widths[0], 3, padding=1)
        skips, c = [widths[0]], widths[0]

        def level(i, blocks):
            attend = [Attention(widths[i], groups) if i in config.attention else nn.Identity() for _ in blocks]
            return nn.ModuleList(blocks), nn.ModuleList(attend)

        self.down, self.down_attention, self.shrink = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for i, width in enumerate(widths):
            blocks = []
            for _ in range(config.blocks[i]):
                blocks.append(ResBlock(c, width, c_emb, config))
                c = width
                skips.append(c)
            blocks, attend = level(i, blocks)
            self.down.append(blocks)
            self.down_attention.append(attend)
            if i < len(widths) - 1:
                self.shrink.append(nn.Conv2d(c, c, 3, stride=2, padding=1))
                skips.append(c)

        self.middle = nn.ModuleList([ResBlock(c, c, c_emb, config) for _ in range(2)])
        self.middle_attention = Attention(c, groups) if config.attention else nn.Identity()

        self.up, self.up_attention, self.grow = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for i, width in reversed(list(enumerate(widths))):
            blocks = []
            for _ in range(config.blocks[i] + 1):
                blocks.append(ResBlock(c + skips.pop(), width, c_emb, config))
                c = width
            blocks, attend = level(i, blocks)
            self.up.append(blocks)
            self.up_attention.append(attend)
            if i > 0:
                self.grow.append(nn.Conv2d(c, c, 3, padding=1))

        self.norm = nn.GroupNorm(groups, c)
        self.last = nn.Conv2d(c, c_out, 3, padding=1)
        zero(self.last)

    def features(self, z, scale):
        """z at unit variance and its Fourier features, folded by ``patch``."""
        waves = [wave(2.0**n * math.pi * z) for n in self.config.fourier for wave in (torch.sin, torch.cos)]
        return F.pixel_unshuffle(torch.cat([z * scale, *waves], 1), self.config.patch)

    def forward(self, z, gamma, scale):
        few = max(1, CACHED // (z.shape[2] * z.shape[3]))
        if torch.is_grad_enabled() or z.device.type != "cpu" or len(z) <= few:
            return self.maps(z, gamma, scale).chunk(2, 1)
        parts = zip(*(values.split(few) for values in (z, gamma, scale)))
        return torch.cat([self.maps(*part) for part in parts]).chunk(2, 1)

    def maps(self, z, gamma, scale):
        """h_eps and h_m in one, (B, 2 C, H, W)."""
        emb = self.embed(gamma_embedding(gamma, self.config.embedding, z.dtype))
        x = self.first(self.features(z, scale))
        skips = [x]
        for i, (blocks, attend) in enumerate(zip(self.down, self.down_attention)):
            for block, attention in with_attention(blocks, attend):
                x = attention(block(x, emb))
                skips.append(x)
            if i < len(self.shrink):
                x = self.shrink[i](x)
                skips.append(x)
        x = self.middle[1](self.middle_attention(self.middle[0](x, emb)), emb)
        for i, (blocks, attend) in enumerate(zip(self.up, self.up_attention)):
            for block, attention in with_attention(blocks, attend):
                x = attention(block(torch.cat([x, skips.pop()], 1), emb))
            if i < len(self.grow):
                x = self.grow[i](F.interpolate(x, scale_factor=2.0, mode="nearest"))
        x = self.last(F.silu(self.norm(x), inplace=True))
        return F.pixel_shuffle(x.to(z.dtype), self.config.patch)
