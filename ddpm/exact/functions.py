"""Functions of torch on float32 maps, exactly: the same answer on every machine, for every picture as if it came alone.

Sums are of integers, below what their type holds: maps are rounded to multiples of a fraction of the picture's largest
value, weights of an output's largest. All else are operations that IEEE 754 rounds correctly, each by itself, and
tables. docs/exact.md defines them.
"""

from __future__ import annotations

import math
from decimal import Decimal, localcontext
from functools import lru_cache

import numpy as np
import torch

from ddpm.diffusion.schedule import DIGITS

from . import passes
from .convolution import LIMIT, fastest
from .tables import ZERO_OF_HIGH

TINY = 2.0**-100
BITS, MOST_BITS = 10, 12  # of maps that convolutions read: rather smaller digits than fewer; at most
DIGITS_OF_WEIGHTS = 64, 32, 16, 8  # of which two make up a weight
PRODUCTS = 2304  # in a sum, at most
FINE = 16  # bits of maps otherwise
WAVES = 1 << 16  # entries of a period of the sine
EXP_UNIT, EXP_RANGE, EXP_BITS = 1 << 10, 24, 24  # of exp of what is not above 0, in integers of 2^-24


def picture_shaped(values: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """(B,) -> (B, 1, ..., 1), to be multiplied with x."""
    return values.view(-1, *[1] * (x.ndim - 1))


def scales(x: torch.Tensor, bits: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Of x (B, ...) for each picture: what makes integers of so many bits of it, and their unit, (B,)."""
    largest = x.abs().amax(tuple(range(1, x.ndim))).clamp_(min=TINY)
    most = torch.full_like(largest, (1 << bits - 1) - 1)
    return most / largest, largest / most


def rounded(x: torch.Tensor, bits: int) -> tuple[torch.Tensor, torch.Tensor]:
    """x (B, ...) float32 -> integers of so many bits, in float32, and the unit of each picture (B,): x ~ q unit."""
    scale, unit = scales(x, bits)
    return (x * picture_shaped(scale, x)).round_(), unit


class Conv:
    """A convolution of rounded maps with weights of two digits, as fine as sums allow."""

    def __init__(self, weight: torch.Tensor, stride: int):
        """weight (O, I, k, k)."""
        self.digit, self.unit, parts = digits(weight)
        self.bits = bits_that_fit(parts)
        self.sums = [Sums(part, self.bits, stride) for part in parts]
        self.inputs = [part.shape[1] for part in parts]

    def __call__(self, x: torch.Tensor, bias: torch.Tensor | None, padding: tuple[int, int]) -> torch.Tensor:
        """x (B, H, W, I) -> (B, H', W', O), float32."""
        q, unit = rounded(x, self.bits)
        if len(self.sums) == 1:
            total = self.sums[0](q, padding)
        else:
            found = [sums(part, padding).double() for sums, part in zip(self.sums, q.split(self.inputs, 3))]
            total = torch.stack(found).sum(0)
        high, low = total.chunk(2, 3)
        v = torch.add(low, high, alpha=self.digit).float()  # a power of two, so that there is one rounding
        v.mul_(self.unit * picture_shaped(unit, v))
        return v if bias is None else v.add_(bias)


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


class Sums:
    """Of products of integers of so many bits with weights, by the fastest kind of convolution."""

    def __init__(self, weight: torch.Tensor, bits: int, stride: int):
        kind = fastest(weight.device)
        self.halved = kind.dtype == torch.uint8 and bits > 8
        self.high = kind(weight, ZERO_OF_HIGH, stride)
        self.low = kind(weight, 0, stride) if self.halved else None

    def __call__(self, q: torch.Tensor, padding: tuple[int, int]) -> torch.Tensor:
        if self.low is None:
            return self.high(as_read(q, self.high), padding)
        high = (q * (1 / 256)).floor_()
        low = self.low(as_read(q.sub_(high * 256), self.low), padding)
        return low.add_(self.high(as_read(high, self.high), padding).mul_(256))


def as_read(q: torch.Tensor, conv) -> torch.Tensor:
    """Integers as a kind of convolution reads them."""
    return (q.add_(conv.zero) if conv.zero else q).to(conv.dtype).contiguous()


def group_norm(x: torch.Tensor, groups: int, weight, bias, eps: float) -> torch.Tensor:
    """x (B, C, ...)."""
    b, c, *size = x.shape
    x = x.flatten(2).transpose(1, 2).contiguous()
    scale, unit = scales(x, FINE)
    total, squares = (sums.view(b, groups, -1).sum(2) for sums in passes.moments(x, scale))
    n = torch.full_like(total, x.shape[1] * c // groups)  # a number CUDA would multiply with the reciprocal of
    mean, unit = total / n, unit.double()[:, None]
    r = 1 / (squares / n - mean * mean + torch.full_like(unit, eps) / (unit * unit)).sqrt()
    mean, gain = (values.float().repeat_interleave(c // groups, 1) for values in (mean, r))
    gain = gain if weight is None else gain * weight
    shift = -(mean * gain) if bias is None else bias - mean * gain
    return passes.affine(x, scale, gain, shift).transpose(1, 2).view(b, c, *size)


def attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """softmax(q k^T / sqrt(d)) v, of (B, ..., N, d)."""
    (q, of_q), (k, of_k), (v, of_v) = (rounded(part, FINE) for part in (q, k, v))
    scale = of_q.double() * of_k.double() / torch.tensor(float(q.shape[-1]), dtype=torch.float64).sqrt() * EXP_UNIT
    logits = q.double() @ k.double().transpose(-2, -1)
    logits = logits.mul_(picture_shaped(scale, q)).round_()
    below = logits.amax(-1, keepdim=True).sub(logits).clamp_(max=EXP_RANGE * EXP_UNIT).nan_to_num_()
    weights = on(exp_table, q.device)[below.long()]
    y = (weights @ v.double()) / weights.sum(-1, keepdim=True)
    return (y * picture_shaped(of_v.double(), y)).float()


def silu(x: torch.Tensor) -> torch.Tensor:
    """x (B, C, ...)."""
    if x.ndim < 3:
        return passes.silu(x.contiguous())
    return passes.silu(x.flatten(2).transpose(1, 2).contiguous()).transpose(1, 2).view(x.shape)


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


def logspace(start: float, end: float, steps: int) -> list[float]:
    """10^start ... 10^end."""
    with localcontext(prec=DIGITS):
        apart = Decimal(end - start) / max(1, steps - 1)
        return [float(Decimal(10) ** (Decimal(start) + apart * i)) for i in range(steps)]


def on(table, device: torch.device) -> torch.Tensor:
    """A table, on a device."""
    return _on(table, device)


@lru_cache
def _on(table, device):
    return torch.from_numpy(table()).to(device)


def wave_table() -> np.ndarray:
    """A period of the sine, in multiples of 2^-20."""
    return (np.rint(np.sin(2 * np.pi * np.arange(WAVES) / WAVES) * 2**20) / 2**20).astype(np.float32)


def exp_table() -> np.ndarray:
    """exp(-i / EXP_UNIT), in units of 2^-EXP_BITS, float64."""
    return np.rint(np.exp(-np.arange(EXP_RANGE * EXP_UNIT + 1) / EXP_UNIT) * 2.0**EXP_BITS)
