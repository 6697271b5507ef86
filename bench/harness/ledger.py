"""Stacks that are watched: what their content would cost a perfect coder, and how long they take."""

from __future__ import annotations

import time

from codec.archive.bitsback import Stack, bits_of
from codec.lossless.likelihood import pixel_nats
from ddpm.diffusion.likelihood import LN2


class Ledger(Stack):
    """A stack that counts log-densities of the very latents, and those of pixels on their grids, ``ideal``, in bits."""

    ideal = 0.0

    def push(self, k, mean, std, tails=True):
        self.ideal += float(bits_of(k, mean, std).sum())
        super().push(k, mean, std, tails)

    def borrow(self, mean, std):
        k = super().borrow(mean, std)
        self.ideal -= float(bits_of(k, mean, std).sum())
        return k

    def push_pixels(self, x, sight):
        groups = super().push_pixels(x, sight)
        self.ideal += sum(float(pixel_nats(*group).sum()) for group in groups) / LN2
        return groups


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
