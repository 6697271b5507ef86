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
        self.model, self.progress = model, progress or (lambda n: None)
        self.bitsback_of, self.gaussians = bitsback_for(model, steps), gaussians_for(model, steps)

    def push(self, stack: Stack, kind: Kind, x: np.ndarray) -> tuple[Stack, int, np.ndarray]:
        """As many patches of a kind, uint8 (n, h, w, channels), as the stack can lend bits to, or the first as a file.

        Returns the stack with them, the entry of the plan, and what each costs, in bits.
        """
        n, bitsback = len(x), self.bitsback_of(kind)
        while n:
            trial = stack.copy()
            try:
                return trial, n, bitsback.push(trial, x[:n].transpose(0, 3, 1, 2), self.progress)
            except Dry:
                n //= 2
        file = patchfile.pack(x[0], self.model)
        stack.push_bytes(file)
        self.progress(bitsback.evaluations)
        return stack, -len(file), np.array([8.0 * len(file)])

    def pop(self, stack: Stack, kind: Kind, entry: int) -> np.ndarray:
        """The patches (n, h, w, channels) that an entry of the plan stands for."""
        (h, w, channels), bitsback = kind, self.bitsback_of(kind)
        if entry > 0:
            return bitsback.pop(stack, (entry, channels, h, w), self.progress).transpose(0, 2, 3, 1)
        self.progress(bitsback.evaluations)
        return patchfile.unpack(stack.pop_bytes(-entry), self.model, kind)[None]
