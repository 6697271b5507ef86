"""A batch of patches, pushed on the stack or popped from it: by bits-back, or as a file for want of bits to borrow."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ddpm.models.model import DDPM

from . import patchfile
from .bitsback import Dry, Stack, bitsback_for, gaussians_for
from .patches import Kind


class BatchCoder:
    """Batches along the latents of T = ``steps``, or of the lossy code; both ways are mirror images.

    ``progress`` counts evaluations of the network for one patch.
    """

    def __init__(self, model: DDPM, steps: int, progress: Callable[[int], object] | None = None):
        self.model, self.progress = model, progress
        self.bitsback_of, self.gaussians = bitsback_for(model, steps), gaussians_for(model, steps)

    def push(self, stack: Stack, kind: Kind, x: np.ndarray) -> np.ndarray:
        """Patches of a kind, uint8 (n, h, w, channels), by bits-back; what each costs, (n,) bits. May raise Dry."""
        return self.bitsback_of(kind).push(stack, x.transpose(0, 3, 1, 2), self.progress)

    def pop(self, stack: Stack, kind: Kind, n: int) -> np.ndarray:
        """The n patches that ``push`` was given."""
        h, w, channels = kind
        return self.bitsback_of(kind).pop(stack, (n, channels, h, w), self.progress).transpose(0, 2, 3, 1)

    def push_file(self, stack: Stack, kind: Kind, x: np.ndarray) -> int:
        """A patch (h, w, channels) as a file; its bytes."""
        file = patchfile.pack(x, self.model)
        stack.push_bytes(file)
        self._skip(kind)
        return len(file)

    def pop_file(self, stack: Stack, kind: Kind, n_bytes: int) -> np.ndarray:
        """The patch that ``push_file`` was given."""
        x = patchfile.unpack(stack.pop_bytes(n_bytes), self.model, kind)
        self._skip(kind)
        return x

    def _skip(self, kind: Kind) -> None:
        if self.progress:
            self.progress(self.bitsback_of(kind).evaluations)

    def push_entry(self, stack: Stack, kind: Kind, x: np.ndarray) -> tuple[Stack, int, np.ndarray]:
        """As many of patches x as the stack can lend bits to, or the first as a file.

        Returns the stack with them, the entry of the plan, and what each costs, in bits.
        """
        n = len(x)
        while n:
            trial = stack.copy()
            try:
                return trial, n, self.push(trial, kind, x[:n])
            except Dry:
                n //= 2
        n_bytes = self.push_file(stack, kind, x[0])
        return stack, -n_bytes, np.array([8.0 * n_bytes])

    def pop_entry(self, stack: Stack, kind: Kind, entry: int) -> np.ndarray:
        """The patches (n, h, w, channels) that an entry of the plan stands for."""
        return self.pop(stack, kind, entry) if entry > 0 else self.pop_file(stack, kind, -entry)[None]
