"""Convolutions of integers: exact sums, by whichever arithmetic of this machine is fastest and gives them.

Inputs are q = u - zero, 0 <= u < 256, weights int8. Every sum of products that may occur stays below 2^24, which
quantisation sees to, so that it is the same in int32 and in float32, in whatever order it is taken.

``Int8``: a library's convolution of bytes. Processors without dot products of bytes (VNNI, AMX) add pairs of products
in 16 bits and cut off what does not fit, so a test of all kinds of sums decides whether to believe the machine at hand.

``Float32``: the same in floats, which any machine has.
"""

from __future__ import annotations

from functools import lru_cache

import torch
import torch.nn.functional as F

from ddpm.machine import all_threads

CPU = torch.device("cpu")
LIMIT = 1 << 24  # of sums: float32 has all integers up to it
TOGETHER = 8  # pictures: of 16 NNPACK, where there is no oneDNN, takes Winograd's algorithm, which rounds on its way
LITTLE = 1 << 21  # products of a convolution, of fewer ``Int8`` takes longer to begin than ``Float32`` takes
# Sizes, strides, paddings in use.
SHAPES = ((3, 1, (1, 1)), (3, 1, (0, 1)), (3, 2, (1, 1)), (2, 2, (0, 0)), (1, 1, (0, 0)))


class Float32:
    """Maps are float32 of q."""

    dtype = torch.float32

    def __init__(self, weight: torch.Tensor, zero: int, stride: int):
        """weight (O, I, k, k) int8."""
        self.zero, self.stride, self.outputs = 0, stride, len(weight)
        self.weight = weight.float().contiguous(memory_format=torch.channels_last)

    def __call__(self, x: torch.Tensor, padding: tuple[int, int]) -> torch.Tensor:
        """x (B, H, W, I) -> sums (B, H', W', O) float32; rows and columns padded with q = 0."""
        parts = x.permute(0, 3, 1, 2).split(TOGETHER)
        y = [F.conv2d(part, self.weight, stride=self.stride, padding=padding) for part in parts]
        return (torch.cat(y) if len(y) > 1 else y[0]).permute(0, 2, 3, 1).contiguous()


class Float64(Float32):
    """Maps are float64 of q, for devices that round sums of float32 on their way."""

    dtype = torch.float64

    def __init__(self, weight: torch.Tensor, zero: int, stride: int):
        super().__init__(weight, zero, stride)
        self.weight = self.weight.double()

    def __call__(self, x: torch.Tensor, padding: tuple[int, int]) -> torch.Tensor:
        return super().__call__(x, padding).float()


class Int8:
    """Maps are uint8 of q + zero."""

    dtype = torch.uint8

    def __init__(self, weight: torch.Tensor, zero: int, stride: int):
        self.zero, self.stride, self.weight, self.outputs = zero, stride, weight, len(weight)
        self.ones, self.zeros = torch.ones(self.outputs), torch.zeros(self.outputs, dtype=torch.int32)
        self.packed = {}

    def __getstate__(self) -> dict:
        """Without what is packed, of which there are no copies."""
        return self.__dict__ | {"packed": {}}

    def __call__(self, x: torch.Tensor, padding: tuple[int, int]) -> torch.Tensor:
        # By AMX oneDNN 3.12 gives wrong sums where strides lead to a single column.
        narrow = x.shape[2] + 2 * padding[1] - self.weight.shape[3] < self.stride and self.stride > 1
        if narrow:
            x = F.pad(x, (0, 0, 0, self.stride), value=self.zero)
        strides, pads, ops = [self.stride] * 2, list(padding), torch.ops.onednn
        if padding not in self.packed:
            shape = [len(x), x.shape[3], *x.shape[1:3]]
            args = self.weight, self.ones, 1.0, self.zero, strides, pads, [1, 1], 1, shape
            self.packed[padding] = ops.qconv_prepack(*args)
        y = ops.qconv2d_pointwise(
            *(x.permute(0, 3, 1, 2), 1.0, self.zero, self.packed[padding], self.ones, self.zeros, None),
            *(strides, pads, [1, 1], 1, 1.0, 0, torch.float32, "none", [], ""),
        )
        return (y[..., :1] if narrow else y).permute(0, 2, 3, 1).contiguous()


Kind = type[Int8] | type[Float32]


def probes() -> list[tuple[torch.Tensor, torch.Tensor, int]]:
    """Inputs u, weights, zero points: sums at their limits, of one sign and of both, and any; of many pictures too."""
    generator = torch.Generator().manual_seed(0)
    found = []
    for inputs, pictures in ((12, 2 * TOGETHER), (64, 1), (256, 1)):
        weight = torch.randint(-127, 128, (32, inputs, 3, 3), generator=generator)
        weight[:8], weight[8:16] = 127, -127
        weight[weight.abs().flatten(1).cumsum(1).view_as(weight) * 255 >= LIMIT] = 0
        u = torch.randint(0, 256, (pictures, 9, 11, inputs), generator=generator)
        u[:, :4] = 255
        for part in (u, u[:, :, :2].repeat(1, 4, 1, 1)):  # narrow ones too
            found += [(part.to(torch.uint8).contiguous(), weight.to(torch.int8), zero) for zero in (0, 16, 128)]
    return found


def is_exact(kind: Kind, device: torch.device = CPU) -> bool:
    """Whether a kind of convolution gives the sums that float64 does, here and now."""
    try:
        for u, weight, zero in probes():
            q = (u.double() - zero).permute(0, 3, 1, 2)
            for size, stride, padding in SHAPES:
                part = weight[:, :, :size, :size].contiguous()
                sums = F.conv2d(q, part.double(), stride=stride, padding=padding).permute(0, 2, 3, 1)
                conv = kind(part.to(device), zero, stride)
                x = u if conv.dtype == torch.uint8 else (u.to(conv.dtype) - zero)
                if not torch.equal(conv(x.contiguous().to(device), padding).double().cpu(), sums):
                    return False
    except (RuntimeError, NotImplementedError, AttributeError, TypeError):  # what a library here does not have
        return False
    return True


@lru_cache
def fastest(device: torch.device = CPU, *, little: bool = False) -> Kind:
    """The first kind that is exact there, for ``little`` work; floats of 64 bits always are, or nothing is."""
    kinds = (Float32, Int8, Float64) if little else (Int8, Float32, Float64)
    with all_threads():
        return next(kind for kind in kinds if is_exact(kind, device))
