"""A trained network made exact: integers in place of its weights, and scales for what it computes on the way.

Scales come from pictures: at each noise level that the code uses, the network's maps are observed. Channels of what a
convolution reads are evened out by factors that go into its weights (Xiao et al. 2023, SmoothQuant); a map then has one
scale for each noise level, that of the largest value seen there.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F

from ddpm.networks.local import PLAIN, Block, Level, LocalNet
from ddpm.networks.rows import Whole
from ddpm.networks.unet import gamma_embedding

from .convolution import Float32
from .local import ExactLocalNet
from .rounding import rounded, scales_of, sums_fit
from .tables import SILU_UNIT, WAVE, Z_UNIT, ZERO_OF_HIGH

HEADROOM = 1.15  # of maps over the largest value that was observed: rare ones are few pictures' own, and cost them much
SHARES = (0.0, 0.25, 0.5, 0.75)  # of a map's differences between channels, tried, that the weights bear
ROUNDED = 0.3  # of the error of weights rounded each for itself, about what is left of it, see rounding.py
ZEROS = (8, 16, 24, 32, 48, 64, 96)  # tried for what comes out of SiLU, which goes less far below 0 than above
WIDEST = 127 * 128  # weight of two parts
EPSILON = 1e-5  # of the norm
SAMPLES, KEPT = 4096, 1024  # positions of a convolution that are looked at, at each noise level; that are kept


@dataclass
class Reading:
    """What one convolution of a block reads: at each noise level some of it, (n, C), and the largest values, (C,);
    and over all levels the second moments of what its weights are multiplied with, (9 C, 9 C), each at the same power.
    """

    samples: list[torch.Tensor] = field(default_factory=list)
    largest: list[torch.Tensor] = field(default_factory=list)
    second: torch.Tensor | float = 0.0
    now: list[torch.Tensor] = field(default_factory=list)  # of this level, what the weights are multiplied with
    largest_now: list[torch.Tensor] = field(default_factory=list)

    def next_level(self) -> None:
        """All of this noise level was seen."""
        around = torch.cat(self.now)
        around = around[:: -(-len(around) // SAMPLES)]
        self.samples.append(around[:: -(-len(around) // KEPT), 4::9].clone())  # the middle of 3 x 3
        self.second += (around.T @ around) / around.square().sum()
        self.largest.append(torch.stack(self.largest_now).amax(0))
        self.now, self.largest_now = [], []


class Observing(Whole):
    """Rows of a network that is watched: what its blocks' convolutions read, and the largest of its maps' values."""

    def __init__(self, net: LocalNet):
        self.net, self.generator = net, torch.Generator().manual_seed(0)
        self.names: dict[object, str] = {module: name for name, module in net.named_modules()}
        self.read: dict[str, Reading] = defaultdict(Reading)
        self.largest: dict[str, float] = defaultdict(float)

    def conv3(self, layer, x, arithmetic):
        if layer.in_channels == layer.out_channels or layer is self.net.first:
            self.observe(self.read[self.names[layer]], x)
        return super().conv3(layer, x, arithmetic)

    def observe(self, reading: Reading, x: torch.Tensor) -> None:
        batch, height, width, _ = x.shape
        places = torch.randint(batch * height * width, (SAMPLES // 4,), generator=self.generator)
        b, i, j = places // (height * width), places // width % height, places % width
        padded = F.pad(x, (0, 0, 1, 1, 1, 1))
        reading.largest_now.append(x.abs().amax((0, 1, 2)))
        reading.now.append(padded.unfold(1, 3, 1).unfold(2, 3, 1)[b, i, j].flatten(1))

    def next_level(self) -> None:
        for reading in self.read.values():
            reading.next_level()

    def add(self, key, early, late, plus=None):
        x = super().add(key, early, late, plus)
        name = self.names[key]
        level = name.rsplit(".", 2)[0] if isinstance(key, Block) else name
        self.largest[level] = max(self.largest[level], float(x.abs().max()))
        return x


@dataclass(frozen=True)
class Map:
    """What a convolution reads: q = rint(x / (factor scale)), -zero <= q < span - zero, span 2^8, or 2^16 if fine."""

    factor: torch.Tensor  # (C,)
    scales: torch.Tensor  # (levels,)
    zero: int
    span: int


def fit_map(reading: Reading, weight: torch.Tensor, zeros: Sequence[int], span: int) -> Map:
    """weight (O, C, k, k). Factors, and a zero point, of least error in what comes out.

    The share of a channel's reach that its factor takes from the map, the weights have to bear.
    """
    reach = torch.stack([x.abs().quantile(0.999, 0) for x in reading.samples]).amax(0).clamp(min=1e-6)
    widest = weight.abs().amax((0, 2, 3)).clamp(min=1e-6)
    found = []
    for share in SHARES:
        factor = reach**share / widest ** (1 - share)
        found.append(fit_scales(reading, weight, factor / factor.log().mean().exp(), zeros, span))
    return min(found, key=lambda pair: pair[0])[1]


def fit_scales(
    reading: Reading, weight: torch.Tensor, factor: torch.Tensor, zeros: Sequence[int], span: int
) -> tuple[float, Map]:
    """The map with these factors (C,), and the squared error in what comes out, that of its weights included, in shares
    of its power, over all levels."""
    power_of_weight = (weight.square().sum((0, 2, 3)) * factor.square()).clamp(min=1e-12)
    units = (weight * factor[:, None, None]).abs().amax((1, 2, 3)) / 127
    of_rounding = ROUNDED * float(units.square().sum()) / 12 * weight[0, 0].numel()  # per square of what is read
    even = [x / factor for x in reading.samples]
    power = [float((x.square() * power_of_weight).sum()) for x in even]
    most = [float((largest / factor).max()) for largest in reading.largest]

    def scales(zero: int) -> list[float]:
        return [v * HEADROOM / (span - 1 - zero) for v in most]

    def error(zero: int) -> float:
        total = 0.0
        for x, scale, p in zip(even, scales(zero), power):
            q = (x / scale).round().clamp(-zero, span - 1 - zero)
            total += float(((q * scale - x).square() * power_of_weight).sum()) / p
        return total

    found, zero = min((error(zero), zero) for zero in zeros)
    of_weights = sum(of_rounding * float(x.square().sum()) / p for x, p in zip(even, power))
    return found + of_weights, Map(factor, torch.tensor(scales(zero)), zero, span)


def fit_weight(weight: torch.Tensor, moments: torch.Tensor, second: torch.Tensor, zero: int):
    """weight (O, C, k, k) -> whole numbers of 8 bits, and units (O,). moments (C,): mean squares of what is read."""
    unit = scales_of(weight, moments)
    q = rounded(weight, unit, second)
    while not (fits := sums_fit(q, zero)).all():
        unit = torch.where(fits, unit, unit * 1.1)
        q = rounded(weight, unit, second)
    return q, unit


def bias_of(conv: torch.nn.Conv2d) -> torch.Tensor:
    assert conv.bias is not None
    return conv.bias


def finest(net: LocalNet) -> list[str]:
    """The convolutions of blocks of the finest size: 8 bits of what they read cost most."""
    names = (name for name, module in net.named_modules() if isinstance(module, Block))
    return [f"{name}.conv{i}" for name in names if "coarser" not in name for i in (1, 2)]


class Quantiser:
    """Makes the tensors of an ``ExactLocalNet``.

    fine: names of the blocks' convolutions that shall read 16 bits, by default the ``finest``.
    """

    def __init__(self, net: LocalNet, fine: Collection[str] | None = None):
        self.net, self.fine, self.seen = net, finest(net) if fine is None else fine, Observing(net)
        self.embedded: list[torch.Tensor] = []
        self.gammas: list[float] = []
        self.scales: list[float] = []
        self.out: dict[str, torch.Tensor] = {}

    def observe(self, gamma: float, z: Sequence[torch.Tensor], scale: torch.Tensor) -> None:
        """The next noise level: batches (B, 3, H, W) that the network sees there, what brings them to unit variance."""
        embedded = self.net.embed(gamma_embedding(torch.tensor([gamma]), self.net.config.embedding))
        seen = self.seen
        for batch in z:
            self.net.maps(batch.contiguous(memory_format=torch.channels_last), embedded, scale, seen, PLAIN)
        seen.next_level()
        self.embedded.append(embedded[0])
        self.gammas.append(gamma)
        self.scales.append(float(scale.flatten()[0]))

    def tensors(self) -> dict[str, np.ndarray]:
        """After all levels were observed."""
        net, largest = self.net, self.seen.largest
        sizes = range(len(net.config.widths))
        of_size = [max(v for name, v in largest.items() if name.count("coarser") == i) for i in sizes]
        units = [v * HEADROOM / (1 << 15) for v in of_size]
        kinds, c = (1 + 2 * len(net.config.fourier)) * net.config.channels, net.config.channels
        inputs = torch.full((kinds,), Z_UNIT / WAVE / 256)  # of the waves, in units of z's 16 bits
        inputs[:c] = 1.0
        inputs = inputs.repeat(net.config.patch**2)
        by = inputs.repeat_interleave(9)
        second = self.seen.read["first"].second / by / by[:, None]
        self.out["gammas"] = torch.tensor(self.gammas, dtype=torch.float64)
        self.out["first.scale"] = torch.tensor(self.scales) * Z_UNIT
        weight = net.first.weight * inputs[:, None, None]
        self.wide("first", weight, bias_of(net.first), (1 / Z_UNIT, units[0]), second)
        self.level(net.levels, "levels", units)
        self.wide("last", net.last.weight, bias_of(net.last), (units[0], 1.0))
        made = {name: np.ascontiguousarray(value.numpy()) for name, value in self.out.items()}
        made["check"] = np.array([ExactLocalNet(net.config, made, Float32).checksum()], np.uint32)
        return made

    def level(self, level: Level, name: str, units: list[float]) -> None:
        for side in ("down", "up"):
            for i, block in enumerate(getattr(level, side)):
                self.block(block, f"{name}.{side}.{i}", units[0])
        if level.coarser:
            shrink = level.shrink.weight.unflatten(1, (2, 2, -1)).permute(0, 3, 1, 2)  # in the order of ``fold``
            self.wide(name + ".shrink", shrink, level.shrink.bias, (units[0], units[1]))
            grow = level.grow.weight[:, :, None, None]
            self.wide(name + ".grow", grow, torch.zeros(len(grow)), (units[1], units[0]))
            self.level(level.coarser, name + ".coarser", units[1:])

    def wide(
        self,
        name: str,
        weight: torch.Tensor,
        bias: torch.Tensor,
        units: tuple[float, float],
        second: torch.Tensor | None = None,
    ) -> None:
        """Of a convolution with weights of 14 bits: the higher part of them, 128 times what it says, and the rest.

        units: of what it reads and of what it gives. second: as in ``rounded``; without, each is rounded for itself.
        """
        scale = (weight.abs().amax((1, 2, 3)) / (1 << 13)).clamp(min=1e-30)
        q = (weight / scale[:, None, None, None]).round() if second is None else rounded(weight, scale, second, WIDEST)
        high = (q / 128).round()
        self.out[name + ".weight"] = torch.cat([high, q - 128 * high]).to(torch.int8)
        self.out |= {name + ".gain": scale * (units[0] / units[1]), name + ".shift": bias / units[1]}

    def block(self, block: Block, name: str, unit: float) -> None:
        maps = []
        for i, (conv, to) in enumerate(((block.conv1, SILU_UNIT), (block.conv2, 1 / unit)), 1):
            key = f"{name}.conv{i}"
            read = self.map(key, conv, (ZERO_OF_HIGH,) if i == 1 else ZEROS)
            q, weights = self.weight(key, conv, read)
            self.out |= {key + ".weight": q, key + ".zero": torch.tensor([read.zero], dtype=torch.int32)}
            self.out |= {key + ".unit": weights * to, key + ".shift": bias_of(conv) * to, key + ".scales": read.scales}
            maps.append(read)
        scale, shift = block.emb(torch.stack(self.embedded)).chunk(2, -1)  # (levels, C)
        floor = block.conv1.in_channels**2 * EPSILON / unit**2
        parts = {".gain": (1 + scale) / maps[0].factor, ".shift": shift / maps[0].factor}
        self.out |= {name + part: value.half() for part, value in parts.items()}
        self.out |= {name + ".rate": 1 / maps[1].factor, name + ".floor": torch.tensor([floor], dtype=torch.float64)}

    def map(self, key: str, conv: torch.nn.Conv2d, zeros: Sequence[int]) -> Map:
        if key in self.fine:
            return fit_map(self.seen.read[key], conv.weight, (1 << 15,), 1 << 16)
        return fit_map(self.seen.read[key], conv.weight, zeros, 1 << 8)

    def weight(self, key: str, conv: torch.nn.Conv2d, read: Map) -> tuple[torch.Tensor, torch.Tensor]:
        reading = self.seen.read[key]
        even = [x / (read.factor * scale) for x, scale in zip(reading.samples, read.scales)]
        moments = torch.stack([x.square().mean(0) / x.square().mean() for x in even]).mean(0)
        factors = read.factor.repeat_interleave(9)
        second = reading.second / factors / factors[:, None]
        zero = 0 if key in self.fine else read.zero  # of the lower half
        q, unit = fit_weight(conv.weight * read.factor[:, None, None], moments, second, zero)
        return q.to(torch.int8), unit
