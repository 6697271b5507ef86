"""One process of many, as ``torchrun`` starts them: who am I, what is my share, what have the others found."""

from __future__ import annotations

import atexit
import os
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Workers:
    """This process's place among ``world``, and the device that it computes on."""

    device: str
    rank: int = 0
    world: int = 1

    def share(self, items: Sequence) -> Sequence:
        """Every ``world``-th item."""
        return items[self.rank :: self.world]

    def gather(self, value) -> list:
        """The values of all processes, in the order of ranks, in every process."""
        if self.world == 1:
            return [value]
        import torch.distributed as dist

        values = [None] * self.world
        dist.all_gather_object(values, value)
        return values

    def wait(self) -> None:
        """Until all processes are here."""
        self.gather(None)


def world_size() -> int:
    """How many processes there are."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def join(device: str) -> Workers:
    """Take part in what ``torchrun`` started, if it did. ``cuda`` becomes this process's own GPU of the machine."""
    if world_size() == 1:
        return Workers(device)
    import torch
    import torch.distributed as dist

    cuda = torch.device(device).type == "cuda"
    if cuda:
        device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
        torch.cuda.set_device(device)
    if not dist.is_initialized():
        dist.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo")
        atexit.register(dist.destroy_process_group)
    return Workers(device, dist.get_rank(), dist.get_world_size())
