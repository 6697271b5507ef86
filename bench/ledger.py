"""Stacks that are watched: what their content would cost a perfect coder, and how long they take."""

from __future__ import annotations

import copy
import math
import time

import numpy as np

from codec.bitsback import Stack
from codec.likelihood import pixel_nats


class Ledger(Stack):
    """A stack that counts log-densities of the very latents, and those of pixels on their grids, ``ideal``, in bits."""

    ideal = 0.0

    def push(self, k, mean, std, tails=True):
        self.ideal += bits(k, mean, std)
        super().push(k, mean, std, tails)

    def borrow(self, mean, std):
        k = super().borrow(mean, std)
        self.ideal -= bits(k, mean, std)
        return k

    def push_pixels(self, x, sight):
        again = copy.deepcopy(sight)
        self.ideal += sum(float(pixel_nats(*group).sum()) for group in again.foreseen(x)) / math.log(2)
        super().push_pixels(x, sight)


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
