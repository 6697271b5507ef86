"""How loops over arrays are compiled: for the processor at hand, once, and with every operation as it stands."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import njit

# No fastmath: nothing is fused or reordered, so floats are rounded alike everywhere.
HOW = {"nogil": True, "error_model": "numpy"}


def compiled(function: Callable) -> Any:
    """What is compiled is kept for the next process, if there is a folder where it may be."""
    try:
        return njit(cache=True, **HOW)(function)
    except RuntimeError:
        return njit(**HOW)(function)
