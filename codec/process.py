"""How this process holds its memory and waits for its cores: said to the system's libraries, before torch is loaded."""

from __future__ import annotations

import ctypes
import os
import sys

LARGE = 1 << 20  # pixels


def give_memory_back(pixels: int = 0) -> None:
    """Have the GNU C library return large blocks as soon as they are free; left to itself, it keeps hundreds of MB.

    Smaller ones it shall keep, 128 MB of them: fresh memory costs as much as what is done in it. What is small depends
    on the picture: where whole maps of the network are, a tenth of the time goes into fresh ones.
    """
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", lambda *_: 0)
        mallopt(-3, 1 << (24 if pixels > LARGE else 25))  # M_MMAP_THRESHOLD
        mallopt(-1, 1 << 27)  # M_TRIM_THRESHOLD


def share_cores() -> None:
    """Have threads of OpenMP wait awake for a moment only: where others want the cores too, more makes all much slower.

    GNU's library reads this when torch is loaded.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")
