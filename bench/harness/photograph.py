"""The photograph that measurements take where none is named, and pictures of any size that are made of one."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from ddpm.models.model import mirror

PICTURE = Path(__file__).parents[1] / "pictures" / "kodim23-half.png"
BOX = (192, 32, 384, 224)  # the head of a macaw in it: left, top, right, bottom


def sized(picture: np.ndarray, pixels: float) -> np.ndarray:
    """About so many pixels, with the sides in the proportion of the picture (H, W, 3)."""
    factor = math.sqrt(pixels / (picture.shape[0] * picture.shape[1]))
    height, width = (max(1, round(factor * n)) for n in picture.shape[:2])
    rows, columns = (mirror(n, size).numpy() for n, size in zip(picture.shape, (height, width)))
    return np.ascontiguousarray(picture[rows][:, columns])
