"""The network of ddpm/networks/local.py in integers.

Between blocks maps are int16, at one scale for each size of map. A block's convolutions read 8 bits of them, after the
norm and after SiLU, at scales that depend on the noise level and the channel; where 8 bits are too few, at the ends and
between sizes, both halves of the 16 are read. What gamma says to a block is tabulated for the noise levels in use.
"""

from __future__ import annotations

import zlib

import numpy as np
import torch

from ddpm.networks.local import STRIP, WHOLE, LocalConfig, LocalNet, unfold
from ddpm.networks.rows import Rolling, Whole

from . import kernels
from .convolution import Float32, Kind, fastest
from .kernels import F32, flat, flat_pair, spread
from .levels import tensors_at
from .tables import ZERO_OF_HIGH, silu_table, wave_table

Tensors = dict[str, np.ndarray]


class Conv:
    """A convolution of integers in the arithmetic of ``kind``."""

    def __init__(self, weight: np.ndarray, zero: int, stride: int, kind: Kind):
        self.run = kind(torch.from_numpy(np.ascontiguousarray(weight)), zero, stride)
        self.out_channels, self.dtype, self.zero = len(weight), self.run.dtype, self.run.zero

    def room(self, x: torch.Tensor, channels: int) -> torch.Tensor:
        """For a map of the size of x that this one reads."""
        return torch.empty(*x.shape[:-1], channels, dtype=self.dtype)


class Integers:
    """The arithmetic of ``rows.conv3``."""

    def dtype(self, x: torch.Tensor) -> torch.dtype:
        return x.dtype

    def sums(self, x: torch.Tensor) -> torch.dtype:
        return torch.float32

    def zero(self, layer: Conv) -> int:
        return layer.zero

    def put(self, room: torch.Tensor, x: torch.Tensor) -> None:
        room.copy_(x)

    def conv(self, layer: Conv, x: torch.Tensor, padding) -> torch.Tensor:
        return layer.run(x, (padding, padding) if isinstance(padding, int) else padding)


INTEGERS = Integers()


class Wide:
    """A convolution of 16-bit numbers, in two halves, with weights of 14 bits, in two parts."""

    def __init__(self, tensors: Tensors, name: str, kind: Kind, *, stride=1, halved: slice | list[int] = slice(None)):
        """halved: which inputs have a lower half."""
        weight = tensors[name + ".weight"]
        self.high = Conv(weight, ZERO_OF_HIGH, stride, kind)
        self.low = Conv(weight[:, halved], 0, stride, kind)
        self.outputs = len(weight) // 2
        self.affine, self.stride = (tensors[name + ".gain"], tensors[name + ".shift"]), stride

    def halves(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """x int16 as the two convolutions read it."""
        high, low = (conv.room(x, x.shape[-1]) for conv in (self.high, self.low))
        spread(kernels.halves, flat(x.contiguous()), F32(self.high.zero), (flat(high), flat(low)))
        return high, low

    def joined(self, high: torch.Tensor, low: torch.Tensor) -> torch.Tensor:
        """int16, from the sums of both."""
        out = torch.empty(*low.shape[:-1], self.outputs, dtype=torch.int16)
        spread(kernels.join, flat(high), flat(low), self.affine, flat(out))
        return out

    def at_once(self, x: torch.Tensor) -> torch.Tensor:
        """int16, of x int16, where no position needs its neighbours. There may be no rows yet."""
        if not x.shape[1]:
            return x.new_empty(len(x), 0, x.shape[2] // self.stride, self.outputs)
        high, low = self.halves(x)
        return self.joined(self.high.run(high, (0, 0)), self.low.run(low, (0, 0)))


class Reader:
    """A convolution of a block, of 8-bit numbers or, where those are too few, of 16-bit ones in two halves."""

    def __init__(self, tensors: Tensors, name: str, kind: Kind):
        weight, zero = tensors[name + ".weight"], int(tensors[name + ".zero"][0])
        self.fine = zero > 255
        self.high = Conv(weight, ZERO_OF_HIGH if self.fine else zero, 1, kind)
        self.low = Conv(weight, 0, 1, kind) if self.fine else None
        span = 1 << (16 if self.fine else 8)
        self.limits = F32(-zero), F32(span - 1 - zero), F32(self.high.zero)
        # From sums to what comes next: (levels, O) and (O,).
        self.gain, self.shift = np.outer(tensors[name + ".scales"], tensors[name + ".unit"]), tensors[name + ".shift"]

    def rooms(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """For what it reads, of the shape of x."""
        return self.high.room(x, x.shape[-1]), self.low.room(x, x.shape[-1]) if self.low else None

    def sums(self, high: torch.Tensor, low: torch.Tensor | None, rows: Whole):
        """Of what was read, those of the lower half apart."""
        of_low = None if low is None else rows.conv3(self.low, low, INTEGERS)
        return rows.conv3(self.high, high, INTEGERS), of_low


class Block:
    """x + conv(SiLU(conv(norm(x)))), x int16."""

    def __init__(self, tensors: Tensors, name: str, kind: Kind):
        self.conv1, self.conv2 = (Reader(tensors, f"{name}.conv{i}", kind) for i in (1, 2))
        self.floor = float(tensors[name + ".floor"][0])
        scales = [tensors[f"{name}.conv{i}.scales"][:, None] for i in (1, 2)]
        # (levels, C), to what the convolutions read.
        self.gain, self.shift = (tensors[f"{name}.{part}"].astype(F32) / scales[0] for part in ("gain", "shift"))
        self.scale = tensors[name + ".rate"] / scales[1]

    def __call__(self, x: torch.Tensor, level: int, rows: Whole) -> torch.Tensor:
        conv1, conv2 = self.conv1, self.conv2
        h = conv1.rooms(x)
        affine = self.gain[level], self.shift[level], self.floor
        spread(kernels.norm, flat(x.contiguous()), affine, conv1.limits, flat_pair(*h))
        sums = conv1.sums(*h, rows)
        h = conv2.rooms(sums[0])
        affine = conv1.gain[level], conv1.shift, self.scale[level], silu_table()
        spread(kernels.activate, flat_pair(*sums), affine, conv2.limits, flat_pair(*h))
        del sums  # half of the room that a block takes
        high, low = conv2.sums(*h, rows)
        del h
        return rows.add(self, x, high, adding((conv2.gain[level], conv2.shift), low))


def adding(affine: tuple[np.ndarray, np.ndarray], low: torch.Tensor | None = None):
    """early + rint(late gain + shift), as ``rows.add`` wants it; low: the late map's lower half."""

    def plus(early: torch.Tensor, late: torch.Tensor, out: torch.Tensor, at: int) -> torch.Tensor:
        lows = [None] * len(late) if low is None else low[:, at : at + late.shape[1]]
        for one_early, one_late, one_low, one_out in zip(early, late, lows, out):
            spread(kernels.add, flat(one_early), flat_pair(one_late, one_low), affine, flat(one_out))
        return out

    return plus


class Level:
    """Blocks, then all coarser levels, added to what they saw, then blocks."""

    def __init__(self, tensors: Tensors, name: str, config: LocalConfig, i: int, kind: Kind):
        def blocks(side: str, n: int) -> list[Block]:
            return [Block(tensors, f"{name}.{side}.{k}", kind) for k in range(n)]

        self.down, self.up, self.coarser = blocks("down", config.down[i]), blocks("up", config.up[i]), None
        if i + 1 < len(config.widths):
            self.shrink = Wide(tensors, name + ".shrink", kind, stride=2)
            self.grow = Wide(tensors, name + ".grow", kind)
            self.coarser = Level(tensors, name + ".coarser", config, i + 1, kind)
            self.plain = adding((np.ones(config.widths[i], F32), np.zeros(config.widths[i], F32)))

    def __call__(self, x: torch.Tensor, level: int, rows: Whole, then=None) -> torch.Tensor:
        for block in self.down:
            x = block(x, level, rows)
        if self.coarser:
            h = self.coarser(self.shrink.at_once(rows.pairs(self, x)), level, rows)
            x = rows.add(self, x, unfold(self.grow.at_once(h), 2), self.plain)

        def rest(x: torch.Tensor) -> torch.Tensor:
            for block in self.up:
                x = block(x, level, rows)
            return then(x) if then else x

        return rows.in_parts(x, rest)


class ExactLocalNet:
    """z (B, 3, H, W) float32, index of a noise level -> h_eps, h_m, both (B, 3, H, W) float32, the same everywhere.

    H and W are multiples of ``config.stride``. tensors: see quantise.py. kind: of convolution, see convolution.py. It
    computes on the CPU, wherever z is. ``floats``: the network that it was made of; with it any level is known.
    """

    def __init__(self, config: LocalConfig, tensors: Tensors, kind: Kind | None = None):
        self.kind = kind = kind or fastest()
        self.floats: LocalNet | None = None
        self.others: dict[float, ExactLocalNet] = {}
        # z reaches the network as a float32, and so does the gamma that it is asked about.
        self.level_of = {float(F32(gamma)): i for i, gamma in enumerate(tensors["gammas"])}
        self.config, self.tensors, self.scales = config, tensors, tensors["first.scale"]
        c, kinds = config.channels, (1 + 2 * len(config.fourier)) * config.channels
        of_z = [i for i in range(kinds * config.patch**2) if i % kinds < c]
        self.first = Wide(tensors, "first", kind, halved=of_z)
        self.levels = Level(tensors, "levels", config, 0, kind)
        self.last = Wide(tensors, "last", kind)

    def checksum(self) -> int:
        """CRC-32 of its answers to a fixed z at three noise levels."""
        count, side = len(self.scales), 3 * self.config.stride
        shape = 1, self.config.channels, side, side - self.config.stride
        z = (np.arange(np.prod(shape), dtype=np.uint64) * 2654435761 >> 8) % 4096 / 1024.0 - 2
        z, crc = torch.from_numpy(z.astype(F32)).view(shape), 0
        for level in sorted({0, count // 2, count - 1}):
            for answer in self(z, level):
                crc = zlib.crc32(answer.contiguous().numpy().tobytes(), crc)
        return crc

    def knows(self, gamma: torch.Tensor) -> bool:
        """Whether all of gamma (B,) are one noise level that there are tensors for, or can be."""
        known = self.floats is not None or float(gamma[0]) in self.level_of
        return known and bool((gamma == gamma[0]).all())

    def answering(self, gamma: float) -> ExactLocalNet:
        """It, or one of this noise level alone."""
        if gamma in self.level_of:
            return self
        if gamma not in self.others:
            assert self.floats is not None  # else it does not know the level
            self.others.clear()  # weights and all, of which one is enough
            tensors = tensors_at(self.floats, self.tensors, gamma)
            self.others[gamma] = ExactLocalNet(self.config, tensors, self.kind)
        return self.others[gamma]

    @torch.inference_mode()
    def at(self, z: torch.Tensor, gamma: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """h_eps, h_m, like z, at a gamma (B,) that it ``knows``."""
        level = float(gamma[0])
        net = self.answering(level)
        h_eps, h_m = net(z.cpu(), net.level_of[level])
        return h_eps.to(z.device), h_m.to(z.device)

    def __call__(self, z: torch.Tensor, level: int) -> tuple[torch.Tensor, torch.Tensor]:
        height, row = z.shape[2], len(z) * z.shape[3]
        if row * height <= WHOLE:
            return in_two(self.maps(z, level, Whole()))
        strip = max(1, STRIP // (row * self.config.stride)) * self.config.stride
        rows, parts = Rolling(STRIP // self.config.patch**2), []
        for top in range(0, height, strip):
            rows.last = top + strip >= height
            parts.append(self.maps(z[:, :, top : top + strip], level, rows))
        return in_two(torch.cat(parts, 2))

    def maps(self, z: torch.Tensor, level: int, rows: Whole) -> torch.Tensor:
        """h_eps and h_m in one, (B, 2 C, H, W)."""
        x = self.first.joined(*self.convolved(self.first, self.features(z, level), rows))
        x = self.levels(x, level, rows, then=lambda x: self.read_out(x, rows))
        return unfold(x, self.config.patch).permute(0, 3, 1, 2)

    def convolved(self, wide: Wide, maps, rows: Whole) -> tuple[torch.Tensor, torch.Tensor]:
        high, low = maps
        return rows.conv3(wide.high, high, INTEGERS), rows.conv3(wide.low, low, INTEGERS)

    def features(self, z: torch.Tensor, level: int) -> tuple[torch.Tensor, torch.Tensor]:
        """What the first convolution reads: z's higher half and its waves, and z's lower half."""
        b, c, h, w = z.shape
        p = self.config.patch
        positions = torch.empty(b, h // p, w // p, 0)
        high = self.first.high.room(positions, (1 + 2 * len(self.config.fourier)) * c * p * p)
        low = self.first.low.room(positions, c * p * p)
        for one, *maps in zip(z, high, low):
            inputs = F32(self.scales[level]), wave_table(), F32(self.first.high.zero)
            spread(kernels.features, *(m.numpy() for m in maps), one.contiguous().numpy(), inputs)
        return high, low

    def read_out(self, x: torch.Tensor, rows: Whole) -> torch.Tensor:
        high, low = self.convolved(self.last, self.last.halves(x), rows)
        out = torch.empty(*low.shape[:-1], self.last.outputs)
        spread(kernels.read_out, flat(high), flat(low), self.last.affine, flat(out))
        return out


def in_two(maps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(B, 2 C, H, W) -> h_eps and h_m."""
    h_eps, h_m = maps.chunk(2, 1)
    return h_eps, h_m


@torch.inference_mode()
def checked(config: LocalConfig, tensors: Tensors) -> ExactLocalNet:
    """The network by the fastest kind of convolution that answers as where it was made; ArithmeticError without one."""
    for kind in dict.fromkeys((fastest(), Float32)):
        net = ExactLocalNet(config, tensors, kind)
        if net.checksum() == int(tensors["check"][0]):
            return net
    raise ArithmeticError("the exact network does not answer here as it did where it was made")
