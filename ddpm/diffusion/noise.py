"""Noise for images that are known by number: what an image gets depends on its number and a seed alone.

So figures and pictures stay the same however images are batched or shared out among processes. (The code stream has
its own randomness, which is the same for every version of every library; see codec/randomness/streams.py.)
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy

import numpy as np
import torch


class Noise:
    """Standard normal noise; images with the same number get the same.

    A slice is the noise of some of the images; it draws from their streams.
    """

    def __init__(self, seed: int, numbers: Sequence[int] | np.ndarray, shape: Sequence[int]):
        self.generators = [np.random.Generator(np.random.Philox(key=[seed, int(i)])) for i in numbers]
        self.shape = tuple(shape)

    def __getitem__(self, images: slice) -> Noise:
        part = copy(self)
        part.generators = self.generators[images]
        return part

    def draw(self, device: torch.device | str = "cpu") -> torch.Tensor:
        """(B, *shape), the next of each image's stream."""
        eps = np.stack([g.standard_normal(self.shape, dtype=np.float32) for g in self.generators])
        return torch.from_numpy(eps).to(device)
