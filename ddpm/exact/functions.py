"""Functions of torch on float32 maps, exactly: the same answer on every machine, for every picture as if it came alone.

Sums are of integers, below what their type holds: maps are rounded to multiples of a fraction of the picture's largest
value, weights of an output's largest. All else are operations that IEEE 754 rounds correctly, each by itself, and
tables. docs/exact.md defines them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Decimal, localcontext
from functools import lru_cache

import numpy as np
import torch

from ddpm.diffusion.rounded import DIGITS

from . import passes
from .convolution import LIMIT, LITTLE, Kind, fastest
from .passes import of_each, rounded
from .tables import FINE, TINY, ZERO_OF_HIGH

BITS, MOST_BITS = 10, 12  # of maps that convolutions read: rather smaller digits than fewer; at most
DIGITS_OF_WEIGHTS = 64, 32, 16, 8  # of which two make up a weight
PRODUCTS = 2304  # in a sum, at most
SHORT, REMEMBERED = 1024, 256  # values told to a layer, and answers of one, that are remembered; at most
WAVES = 1 << 16  # entries of a period of the sine
EXP_UNIT, EXP_RANGE, EXP_BITS = 1 << 10, 24, 24  # of exp of what is not above 0, in integers of 2^-24


class Conv:
    """A convolution of rounded maps with weights of two digits, as fine as sums allow."""

    def __init__(self, weight: torch.Tensor, stride: int):
        """weight (O, I, k, k)."""
        self.digit, self.unit, self.parts = digits(weight)
        self.bits, self.stride = bits_that_fit(self.parts), stride
        self.products = weight[:, 0].numel() / stride**2  # of each value of a map
        self.none = torch.zeros(len(weight), device=weight.device)
        self.made: dict[Kind, Sums] = {}
        self.said: dict[tuple, torch.Tensor] = {}

    def __call__(self, x: torch.Tensor, bias: torch.Tensor | None, padding: tuple[int, int]) -> torch.Tensor:
        """x (B, H, W, I) -> (B, H', W', O), float32."""
        kind = fastest(x.device, little=x.numel() * self.products < LITTLE)
        if kind not in self.made:
            self.made[kind] = Sums(self.parts, self.stride, kind, self.bits)
        sums, unit = self.made[kind](x, padding)
        y = passes.finished(sums.flatten(1, 2), self.digit, self.unit, unit, self.none if bias is None else bias)
        return y.view(*sums.shape[:3], -1)

    def of_rows(self, x: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        """x (B, I) -> (B, O). Answers to little are remembered: such layers are often told no more than the gamma."""
        if x.numel() > SHORT or x.device.type != "cpu":
            return self(x[:, None, None], bias, (0, 0))[:, 0, 0]
        key = x.shape, *(b"" if v is None else v.detach().numpy().tobytes() for v in (x, bias))
        if key not in self.said:
            if len(self.said) >= REMEMBERED:
                self.said.clear()
            self.said[key] = self(x[:, None, None], bias, (0, 0))[:, 0, 0]
        return self.said[key].clone()


class Sums:
    """The sums of a convolution's parts by one kind of arithmetic."""

    def __init__(self, parts: list[torch.Tensor], stride: int, kind: Kind, bits: int):
        self.dtype, self.bits, self.inputs = kind.dtype, bits, [part.shape[1] for part in parts]
        self.halved = kind.dtype == torch.uint8 and bits > 8
        self.high = [kind(part, ZERO_OF_HIGH, stride) for part in parts]
        self.low = [kind(part, 0, stride) for part in parts] if self.halved else []

    def __call__(self, x: torch.Tensor, padding: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
        """x (B, H, W, I) -> (B, H', W', 2 O), and units (B,)."""
        high, low, unit = passes.read(x, self.bits, self.dtype, self.high[0].zero, halved=self.halved)
        sums = self.of(self.high, high, padding)
        if low is not None:
            sums = self.of(self.low, low, padding).add_(sums, alpha=256)  # of integers that fit
        return sums, unit

    def of(self, convs, maps: torch.Tensor, padding: tuple[int, int]) -> torch.Tensor:
        """Sums over all parts, float64 if there are several."""
        if len(convs) == 1:
            return convs[0](maps, padding)
        found = [conv(part.contiguous(), padding).double() for conv, part in zip(convs, maps.split(self.inputs, 3))]
        return torch.stack(found).sum(0)


def digits(weight: torch.Tensor) -> tuple[int, torch.Tensor, list[torch.Tensor]]:
    """weight (O, I, k, k) ~ unit[o] (digit high + low): digit, unit (O,) float32, high and low as (2 O, I, k, k) int8,
    in parts of some inputs, whose sums are taken apart.

    The more products a sum has, the smaller are the digits.
    """
    weight = weight.double()
    largest, few = weight.abs().amax((1, 2, 3)).clamp(min=TINY), max(1, PRODUCTS // weight[0, 0].numel())

    def split(digit):
        unit = (largest / (digit // 2 * digit)).float()
        q = (weight / unit.double().view(-1, 1, 1, 1)).round()
        high = (q / digit).round()
        return digit, unit, [part.to(torch.int8) for part in torch.cat([high, q - digit * high]).split(few, 1)]

    found = map(split, DIGITS_OF_WEIGHTS)
    return next(f for f in found if bits_that_fit(f[2]) >= BITS or f[0] == DIGITS_OF_WEIGHTS[-1])


def bits_that_fit(parts: list[torch.Tensor]) -> int:
    """Of integers whose sums of products with weights (O, I, k, k) stay below LIMIT, in each of the parts."""
    largest = max(int(part.double().abs().sum((1, 2, 3)).amax()) for part in parts)
    return next(b for b in range(MOST_BITS, 0, -1) if ((1 << b - 1) - 1) * largest < LIMIT)


def group_norm(x: torch.Tensor, groups: int, weight, bias, eps: float) -> torch.Tensor:
    """x (B, C, ...)."""
    weight, bias = (x.new_ones(x.shape[1]), x.new_zeros(x.shape[1])) if weight is None else (weight, bias)
    return passes.group_norm(positions(x), groups, weight, bias, eps).transpose(1, 2).view(x.shape)


def positions(x: torch.Tensor) -> torch.Tensor:
    """(B, C, ...) -> (B, n, C)."""
    return x.flatten(2).transpose(1, 2).contiguous()


def attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """softmax(q k^T / sqrt(d)) v, of (B, ..., N, d)."""
    (q, of_q), (k, of_k), (v, of_v) = (rounded(part, FINE) for part in (q, k, v))
    root = torch.full_like(of_q, math.sqrt(q.shape[-1]), dtype=torch.float64)
    scale = of_q.double() * of_k.double() / root * EXP_UNIT
    logits = q.double() @ k.double().transpose(-2, -1)
    logits = logits.mul_(of_each(scale, q)).round_()
    below = logits.amax(-1, keepdim=True).sub(logits).clamp_(max=EXP_RANGE * EXP_UNIT).nan_to_num_()
    weights = on(exp_table, q.device)[below.long()]
    y = (weights @ v.double()) / weights.sum(-1, keepdim=True)
    return (y * of_each(of_v.double(), y)).float()


def silu(x: torch.Tensor) -> torch.Tensor:
    """x (B, C, ...)."""
    return passes.silu(x.contiguous()) if x.ndim < 3 else passes.silu(positions(x)).transpose(1, 2).view(x.shape)


def wave(x: torch.Tensor, quarters: int) -> torch.Tensor:
    """sin(x + quarters pi / 2), of x to the nearest 2^-16 of a period."""
    at = (x * (WAVES / (2 * math.pi))).round_().add_(quarters * WAVES // 4).remainder_(WAVES).nan_to_num_()
    return on(wave_table, x.device)[at.int()]


def average(x: torch.Tensor, size: int) -> torch.Tensor:
    """(B, C, H, W) -> means of size x size pixels, added in order; size is a power of two."""
    parts = [x[..., i::size, j::size] for i in range(size) for j in range(size)]
    height, width = (n // size for n in x.shape[2:])
    total = parts[0][..., :height, :width].clone()
    for part in parts[1:]:
        total += part[..., :height, :width]
    return total / size**2


def exp(x: torch.Tensor) -> torch.Tensor:
    """Of few numbers."""
    with localcontext(prec=DIGITS):
        values = [float(Decimal(v).exp()) for v in x.flatten().tolist()]
    return torch.tensor(values, dtype=torch.float64, device=x.device).to(x.dtype).view(x.shape)


@lru_cache
def logspace(start: float, end: float, steps: int) -> list[float]:
    """10^start ... 10^end."""
    with localcontext(prec=DIGITS):
        apart = Decimal(end - start) / max(1, steps - 1)
        return [float(Decimal(10) ** (Decimal(start) + apart * i)) for i in range(steps)]


@lru_cache
def on(table: Callable[[], np.ndarray], device: torch.device) -> torch.Tensor:
    """A table, on a device."""
    return torch.from_numpy(table()).to(device)


def wave_table() -> np.ndarray:
    """A period of the sine, in multiples of 2^-20."""
    return (np.rint(np.sin(2 * np.pi * np.arange(WAVES) / WAVES) * 2**20) / 2**20).astype(np.float32)


def exp_table() -> np.ndarray:
    """exp(-i / EXP_UNIT), in units of 2^-EXP_BITS, float64."""
    return np.rint(np.exp(-np.arange(EXP_RANGE * EXP_UNIT + 1) / EXP_UNIT) * 2.0**EXP_BITS)
