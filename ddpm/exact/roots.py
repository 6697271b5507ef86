"""Square roots, rounded correctly."""

from __future__ import annotations

import numpy as np
import torch


def sqrt_(x: torch.Tensor) -> torch.Tensor:
    """In place, of any shape. On a CPU torch leaves roots to a library whose last digits depend on the processor."""
    if x.device.type != "cpu":
        return x.sqrt_()
    values = x.detach().numpy()  # the same memory
    with np.errstate(invalid="ignore"):
        np.sqrt(values, out=values)
    return x


def sqrt(x: torch.Tensor) -> torch.Tensor:
    return sqrt_(x.clone())
