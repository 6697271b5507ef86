"""Any network of common functions of torch, evaluated exactly: without a word of it being changed.

Inside ``with Exactly():`` convolutions, norms, attention and the like are those of functions.py; what rounds correctly
by itself, or only moves numbers, is done as ever; all else is refused.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from . import functions
from .roots import sqrt, sqrt_

ELEMENTWISE = {"add", "sub", "mul", "neg", "abs", "clamp"}
ELEMENTWISE |= {f"__{side}{name}__" for side in ("", "r", "i") for name in ("add", "sub", "mul")}
MOVES = {"cat", "stack", "chunk", "split", "unbind", "view", "reshape", "flatten", "transpose", "permute", "expand"}
MOVES |= {"expand_as", "squeeze", "unsqueeze", "pad", "flip", "pixel_shuffle", "pixel_unshuffle", "contiguous", "clone"}
MOVES |= {"detach", "to", "float", "double", "long", "int", "cpu", "full", "zeros", "ones", "empty", "zeros_like"}
MOVES |= {"ones_like", "arange", "tensor", "dim", "size", "stride", "numel", "type", "is_contiguous", "__getitem__"}
MOVES |= {"is_floating_point", "is_inference", "__len__", "__get__", "__eq__", "__ne__"}


class Exactly(TorchFunctionMode):
    """Of one network, whose weights it keeps as integers. Of a batch each picture is seen as if it came alone."""

    def __init__(self):
        super().__init__()
        self.convs: dict[tuple, tuple[Tensor, functions.Conv]] = {}

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func in EXACT:
            return EXACT[func](self, *args, **kwargs)
        name = getattr(func, "__name__", str(func))
        plain = name if name.startswith("__") else name.rstrip("_")
        if (plain in ELEMENTWISE and kwargs.get("alpha", 1) == 1) or plain in MOVES:
            return func(*args, **kwargs)
        raise ArithmeticError(f"{name} is not exact: the network cannot be evaluated alike on all machines")

    def conv(self, weight: Tensor, stride: int) -> functions.Conv:
        """Made once of each weight (O, I, k, k)."""
        version = 0 if weight.is_inference() else weight._version
        key = weight.data_ptr(), version, stride
        if key not in self.convs or self.convs[key][0] is not weight:
            of_pixels = weight.view(*weight.shape[:2], *weight.shape[2:] or (1, 1))
            self.convs[key] = weight, functions.Conv(of_pixels, stride)
        return self.convs[key][1]


class ExactMaps:
    """The maps that ``evaluate`` makes of z (B, C, H, W) and one gamma, by functions that ``Exactly`` knows."""

    def __init__(self, evaluate: Callable[[Tensor, float], tuple[Tensor, Tensor]]):
        self.evaluate, self.exactly = evaluate, Exactly()

    def knows(self, gamma: Tensor) -> bool:
        """Whether all of gamma (B,) are one noise level."""
        return bool((gamma == gamma[0]).all())

    def at(self, z: Tensor, gamma: Tensor) -> tuple[Tensor, Tensor]:
        """At a gamma (B,) that it ``knows``."""
        level = float(gamma[0])
        with self.exactly:
            return self.evaluate(z, level)


def _conv2d(of: Exactly, x, weight, bias=None, stride=1, padding=0, dilation=1, groups=1) -> Tensor:
    both = {"stride": stride, "dilation": dilation}
    if groups != 1 or any(len({*pair(value)}) > 1 for value in both.values()) or pair(dilation)[0] != 1:
        raise ArithmeticError("convolutions in groups, or with holes, are not exact")
    y = of.conv(weight, pair(stride)[0])(x.permute(0, 2, 3, 1), bias, pair(padding))
    return y.permute(0, 3, 1, 2)


def _linear(of: Exactly, x, weight, bias=None) -> Tensor:
    """x (B, ..., I)."""
    if x.ndim == 2:
        return of.conv(weight, 1).of_rows(x, bias)
    y = of.conv(weight, 1)(x.reshape(len(x), -1, 1, x.shape[-1]), bias, (0, 0))
    return y.view(*x.shape[:-1], -1)


def _interpolate(_, x, size=None, scale_factor=None, mode="nearest", **_more) -> Tensor:
    if mode != "nearest":
        raise ArithmeticError(f"interpolation by {mode!r} is not exact")
    return F.interpolate(x, size, scale_factor, mode)


def _dropout(_, x, p=0.5, training=True, inplace=False) -> Tensor:
    if training:
        raise ArithmeticError("a network that is being trained is not exact")
    return x


def _group_norm(_, x, groups, weight=None, bias=None, eps=1e-5) -> Tensor:
    return functions.group_norm(x, groups, weight, bias, eps)


def _attention(_, q, k, v, attn_mask=None, dropout_p=0.0, is_causal=False, **_more) -> Tensor:
    if attn_mask is not None or dropout_p or is_causal:
        raise ArithmeticError("attention with a mask is not exact")
    return functions.attention(q, k, v)


def _avg_pool2d(_, x, kernel_size, stride=None, padding=0, ceil_mode=False, *more, **_more) -> Tensor:
    size, *others = {*pair(kernel_size), *pair(stride or kernel_size)}
    if others or size & (size - 1) or any(pair(padding)) or ceil_mode or more:
        raise ArithmeticError("only means of squares side by side, of 2, 4, 8 ... pixels, are exact")
    return functions.average(x, size)


def _logspace(_, start, end, steps, device=None, dtype=torch.float32) -> Tensor:
    return torch.tensor(functions.logspace(start, end, steps), device=device, dtype=dtype)


def _divide(_, x, y) -> Tensor:
    """By a tensor: CUDA multiplies with the reciprocal of a number."""
    return x / (y if isinstance(y, Tensor) else torch.tensor(y, dtype=x.dtype, device=x.device).expand_as(x))


def pair(value) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else tuple(value)


EXACT: dict[Callable, Callable] = {
    F.conv2d: _conv2d,
    F.linear: _linear,
    F.group_norm: _group_norm,
    F.silu: lambda _, x, inplace=False: functions.silu(x),
    F.scaled_dot_product_attention: _attention,
    F.interpolate: _interpolate,
    F.avg_pool2d: _avg_pool2d,
    F.dropout: _dropout,
    Tensor.sin: lambda _, x: functions.wave(x, 0),
    Tensor.cos: lambda _, x: functions.wave(x, 1),
    Tensor.sqrt: lambda _, x: sqrt(x),
    Tensor.sqrt_: lambda _, x: sqrt_(x),
    torch.sqrt: lambda _, x: sqrt(x),
    Tensor.exp: lambda _, x: functions.exp(x),
    torch.sin: lambda _, x: functions.wave(x, 0),
    torch.cos: lambda _, x: functions.wave(x, 1),
    torch.exp: lambda _, x: functions.exp(x),
    torch.logspace: _logspace,
    torch.addcmul: lambda _, x, a, b: a * b + x,
    Tensor.__truediv__: _divide,
    Tensor.div: _divide,
    torch.div: _divide,
}
