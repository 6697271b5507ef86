"""That the network answers to the last bit as it did for the encoder: without it an archive would come out as noise.

Both sides take plain float32, the same algorithms, the same batches and as many threads. That this is enough is tested
before the first picture: the header has a checksum of the network's answers to fixed latents.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterable
from contextlib import contextmanager

import numpy as np
import torch

from ddpm.models.model import DDPM, strict_fp32

from .bitsback import BitsBack, Stack
from .gaussians import Gaussians
from .patches import Batch, Kind


@contextmanager
def same_arithmetic(threads: int):
    """Plain float32, the same algorithms each time, and so many threads."""
    strict_fp32()
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
            yield
    finally:
        torch.set_num_threads(before)


@torch.inference_mode()
def agreement(bitsback_of: Callable[[Kind], BitsBack], gaussians: Gaussians, batches: Iterable[Batch]) -> int:
    """CRC-32 of what p says of fixed latents, at three levels of all batches of distinct shapes, and of the coder."""
    shapes = sorted({(entry, channels, h, w) for entry, (h, w, channels), _ in batches if entry > 0})
    crc = 0
    for n, channels, h, w in shapes:
        shape, latents = (n, channels, h, w), bitsback_of((h, w, channels)).latents
        c = (np.arange(math.prod(shape), dtype=np.uint64) * 2654435761 >> 8) % 4096 / 1024.0 - 2
        middle = len(latents.steps) // 2
        answers = [a for i in (0, middle) for a in latents.x_hat(i, c, shape)]
        for a in (*latents.prior(shape), *answers, *latents.pixels(c, shape)):
            crc = zlib.crc32(np.asarray(a).tobytes(), crc)
    stack, k = Stack(gaussians), np.arange(-99, 99)
    stack.push(k, k[::-1] / 9 + 0.1, 8 + np.abs(k) / 7)
    return zlib.crc32(stack.words().astype("<u4").tobytes(), crc)


def made_on(model: DDPM) -> str:
    """What an archive says of its machine, for those who cannot read it on theirs."""
    return f"torch {torch.__version__}, {model.device.type}, {torch.backends.cpu.get_cpu_capability()}"
