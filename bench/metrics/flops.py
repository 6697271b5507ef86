"""Floating-point operations: how many a network takes, and how many the device at hand can do."""

from __future__ import annotations

import time
from collections.abc import Callable
from copy import deepcopy
from functools import lru_cache

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ddpm.exact.convolution import Int8

SIDE = {"cpu": 2048, "cuda": 8192}  # of the matrices that measure the peak
TRIALS = 5
MAP = 256, 64, 96  # channels, height and width of the map that measures that of bytes


@lru_cache(maxsize=64)
def flops_per_evaluation(model: nn.Module, height: int, width: int, training=False) -> int:
    """Of the network for one picture, with the way back if ``training``; counted by torch, and nothing is computed."""
    shadow = deepcopy(model).to("meta").requires_grad_(training)
    z, gamma = torch.zeros(1, 3, height, width, device="meta"), torch.zeros(1, device="meta")
    with FlopCounterMode(display=False) as counter, torch.set_grad_enabled(training):
        out = shadow(z, gamma)
        if training:
            sum(o.sum() for o in out).backward()
    return counter.get_total_flops()


@lru_cache(maxsize=8)
def peak(device: torch.device, dtype: torch.dtype) -> float:
    """TFLOP/s of a product of large matrices, with as many threads as torch has now: the best of some trials.

    Of bytes, that of a 3x3 convolution, which torch does faster.
    """
    if dtype == torch.uint8:
        channels, *size = MAP
        x = torch.randint(256, (1, *size, channels), dtype=dtype)
        conv = Int8(torch.randint(-127, 128, (channels, channels, 3, 3), dtype=torch.int8), 128, 1)
        return 2 * 9 * channels * x.numel() / seconds_of(lambda: conv(x, (1, 1)), device) / 1e12
    n = SIDE[device.type]
    a, b = (torch.rand(n, n, device=device).to(dtype) for _ in range(2))
    return 2 * n**3 / seconds_of(lambda: a @ b, device) / 1e12


def seconds_of(work: Callable[[], object], device: torch.device) -> float:
    """Of the fastest trial."""
    best = float("inf")
    for _ in range(1 + TRIALS):
        start = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best = min(best, time.perf_counter() - start)
    return best
