"""Stacks that are watched: what their content would cost a perfect coder, and how long they take."""

from __future__ import annotations

import math
import time

import numpy as np
import torch

from codec.bitsback import Stack
from codec.lossless import HALF
from ddpm.likelihood import discretized_gaussian_nats


class Ledger(Stack):
    """A stack that counts log-densities of the very latents and pixels, ``ideal``, in bits."""

    ideal = 0.0

    def push(self, k, mean, std, tails=True):
        self.ideal += bits(k, mean, std)
        super().push(k, mean, std, tails)

    def borrow(self, mean, std):
        k = super().borrow(mean, std)
        self.ideal -= bits(k, mean, std)
        return k

    def push_pixels(self, x, mean, log_std):
        unit = torch.from_numpy(x / HALF - 1)
        nats = discretized_gaussian_nats(unit, torch.from_numpy(mean), torch.from_numpy(log_std))
        self.ideal += float(nats.sum()) / math.log(2)
        super().push_pixels(x, mean, log_std)


class Clock(Stack):
    """A stack that sums the seconds spent in it."""

    seconds = 0.0

    def push(self, *args, **how):
        return self._timed(super().push, *args, **how)

    def pop(self, *args, **how):
        return self._timed(super().pop, *args, **how)

    def push_pixels(self, *args):
        return self._timed(super().push_pixels, *args)

    def pop_pixels(self, *args):
        return self._timed(super().pop_pixels, *args)

    def _mask(self, count):
        return self._timed(super()._mask, count)

    def _timed(self, method, *args, **how):
        start = time.perf_counter()
        out = method(*args, **how)
        self.seconds += time.perf_counter() - start
        return out


def bits(k: np.ndarray, mean: np.ndarray, std: np.ndarray | float) -> float:
    """Of integers k (n,) under the densities of Gaussians, summed."""
    return float(np.sum(((k - mean) / std) ** 2 / 2 + np.log(std) + math.log(2 * math.pi) / 2) / math.log(2))
