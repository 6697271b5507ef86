"""Sheets: many pictures side by side as one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

GAP = 2  # white pixels between tiles


def tiled(pictures: Sequence[np.ndarray], columns: int, gap: int = GAP) -> np.ndarray:
    """uint8 (H, W, 3) each, row by row -> one picture of them on white."""
    height, width, _ = pictures[0].shape
    rows = -(-len(pictures) // columns)
    sheet = np.full((rows * (height + gap) + gap, columns * (width + gap) + gap, 3), 255, np.uint8)
    for i, picture in enumerate(pictures):
        y, x = gap + i // columns * (height + gap), gap + i % columns * (width + gap)
        sheet[y : y + height, x : x + width] = picture
    return sheet
