"""A model that looks at every picture as if it came alone, so that its file does not depend on the company it is in.

What a library makes of a convolution depends on the size of the batch, and of small maps on the number of threads: the
last digits differ, and with them now and then a message. A CPU gains next to nothing by batches, so there each picture
is looked at by itself, small ones by one thread each, as many at a time as there are cores.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import torch

from ddpm.machine import cpu_count
from ddpm.model import DDPM

from .trellis import all_threads

SMALL = 1 << 12  # pixels, at most


class Alone:
    """``model`` itself, but for what it says of a batch."""

    def __init__(self, model: DDPM):
        self.model = model

    def __getattr__(self, name: str):
        return getattr(self.model, name)

    def __call__(self, z: torch.Tensor, gamma: torch.Tensor, *bf16: bool) -> tuple[torch.Tensor, torch.Tensor]:
        """z (B, C, H, W), gamma (B,) -> eps_hat, log m, as of ``DDPM.forward``."""
        if z.device.type != "cpu":
            return self.model(z, gamma, *bf16)

        @torch.inference_mode()
        def look(z, gamma):
            return self.model(z, gamma, *bf16)

        one_each = zip(z.split(1), gamma.split(1))
        if z.shape[2] * z.shape[3] > SMALL:
            answers = [look(*one) for one in one_each]
        elif len(z) == 1:
            with all_threads():
                torch.set_num_threads(1)
                answers = [look(z, gamma)]
        else:
            with (
                all_threads(),
                ThreadPoolExecutor(cpu_count(), initializer=torch.set_num_threads, initargs=(1,)) as pool,
            ):
                answers = list(pool.map(lambda one: look(*one), one_each))
        return tuple(a[0] if len(a) == 1 else torch.cat(a) for a in zip(*answers))
