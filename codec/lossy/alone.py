"""A model that looks at every picture as if it came alone, so that its file does not depend on the company it is in.

What a library makes of a convolution depends on the size of the batch, and of small maps on the number of threads: the
last digits differ, and with them now and then a message. A CPU gains next to nothing by batches, so there each picture
is looked at by itself, small ones by one thread each, as many at a time as there are cores.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch

from ddpm.machine import all_threads, cpu_count
from ddpm.models.model import DDPM

SMALL = 1 << 12  # pixels, at most


class Alone:
    """``model`` itself, but for what it says of a batch."""

    def __init__(self, model: DDPM):
        self.model = model

    def __getattr__(self, name: str):
        return getattr(self.model, name)

    def maps(self, z: torch.Tensor, gamma: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """z (B, C, H, W), gamma (B,) -> h_eps, h_m, as of ``DDPM.maps``."""
        if z.device.type != "cpu":
            return self.model.maps(z, gamma)
        ones = list(zip(z.split(1), gamma.split(1)))
        if z.shape[2] * z.shape[3] > SMALL:
            answers = [self.model.maps(z, gamma) for z, gamma in ones]
        else:
            answers = by_one_thread_each(lambda one: self.model.maps(*one), ones)
        h_eps, h_m = (a[0] if len(a) == 1 else torch.cat(a) for a in zip(*answers))
        return h_eps, h_m


def by_one_thread_each(work: Callable, items: Sequence) -> list:
    """What ``work`` makes of each item, by one thread whatever the number of threads is; the cores share the items."""
    mode = torch.inference_mode if torch.is_inference_mode_enabled() else torch.no_grad  # threads have their own

    def alone(item):
        torch.set_num_threads(1)
        with mode():
            return work(item)

    with all_threads():
        if len(items) == 1:
            return [alone(items[0])]
        with ThreadPoolExecutor(min(cpu_count(), len(items))) as pool:
            return list(pool.map(alone, items))
