"""What the machine at hand is good at. Nothing here changes what a file means, only how fast it is made and read."""

from __future__ import annotations

import contextlib
import os
from functools import cache, partial

import torch

# A forked child has none of the threads of OpenMP that its parent had, but waits for them: it computes on one.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=partial(torch.set_num_threads, 1))


@cache
def has_fast_bf16(device: torch.device) -> bool:
    """Whether matrix units of the device make bf16 products several times faster than fp32 ones."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    # Libraries may be told to do with less than there is.
    if not torch.backends.cpu.get_cpu_capability().startswith("AVX512"):
        return False
    told = os.environ.get("ONEDNN_MAX_CPU_ISA", os.environ.get("DNNL_MAX_CPU_ISA", "ALL")).upper()
    if "AMX" not in told and told not in ("ALL", "DEFAULT"):
        return False
    return getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)()


def cpu_count() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextlib.contextmanager
def all_threads():
    """In the end libraries use as many threads as before: some take it from all what one of them asks for itself."""
    threads = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(threads)
