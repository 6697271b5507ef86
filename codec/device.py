"""Names of devices, and this process's place among others. Only what asks for a device imports torch."""

from __future__ import annotations

import re

from ddpm.training.distributed import Workers, join, world_size

from .errors import CodecError


def check_device(device: str) -> None:
    """CodecError for what is no device's name."""
    if not re.fullmatch("auto|cpu|cuda(:(0|[1-9][0-9]{0,3}))?", device):
        raise CodecError(f"no device {device!r}; use auto, cpu, cuda or cuda:N")


def pick_device(device: str) -> str:
    """``auto`` becomes cuda where there is one; CodecError for what is not here, and for other kinds of devices."""
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu":
        return device
    check_device(device)
    if not torch.cuda.is_available():
        raise CodecError("no CUDA device here; use --device cpu")
    count = torch.cuda.device_count()
    if int(device.partition(":")[2] or 0) >= count:
        raise CodecError(
            f"no device {device!r} here; CUDA devices here: {', '.join(f'cuda:{n}' for n in range(count))}"
        )
    return device


def workers_on(device: str) -> Workers:
    """This process's place among those that torchrun started; torch, and with it the device, waits if it is alone."""
    return join(pick_device(device) if world_size() > 1 else device)
