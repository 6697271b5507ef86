"""How loops over arrays are compiled: for the processor at hand, once, and with every operation as it stands."""

from __future__ import annotations

from numba import njit

# No fastmath: nothing is fused or reordered, so floats are rounded alike everywhere.
compiled = njit(nogil=True, cache=True, error_model="numpy")
