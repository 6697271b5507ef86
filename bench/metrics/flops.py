"""Floating-point operations: how many a network takes, and how many the device at hand can do."""

from __future__ import annotations

import time
from copy import deepcopy
from functools import lru_cache

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

SIDE = {"cpu": 2048, "cuda": 8192}  # of the matrices that measure the peak
TRIALS = 5


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
    """TFLOP/s of a product of large matrices, with as many threads as torch has now: the best of some trials."""
    n = SIDE[device.type]
    a, b = (torch.rand(n, n, device=device).to(dtype) for _ in range(2))
    best = float("inf")
    for _ in range(1 + TRIALS):
        start = time.perf_counter()
        a @ b
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best = min(best, time.perf_counter() - start)
    return 2 * n**3 / best / 1e12
