"""A stack that is watched: what its content would cost a perfect coder."""

from __future__ import annotations

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
