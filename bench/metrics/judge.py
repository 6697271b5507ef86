"""What a decoded picture is worth: bytes, bits/dim, squared error, and MS-SSIM where the picture is large enough."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from .msssim import LEAST_SIDE, ms_ssim


def mse(a: np.ndarray, b: np.ndarray) -> float:
    """Mean squared error in squared grey levels."""
    return float(np.mean((a.astype(float) - b) ** 2))


def decoded(data: bytes, grey: bool = False) -> np.ndarray:
    """A file that Pillow reads, (H, W, 3) uint8, or (H, W) if grey."""
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("L" if grey else "RGB"))


def figures(picture: np.ndarray, array: np.ndarray, n_bytes: int) -> dict:
    """A file of so many bytes that shows ``array``, both uint8 of one shape."""
    return {"bytes": n_bytes, "bits_per_dim": 8 * n_bytes / picture.size, "mse": mse(array, picture)}


def judge(picture: np.ndarray, array: np.ndarray, n_bytes: int) -> dict:
    """The same of (H, W, 3) or (H, W), with MS-SSIM of luma; None below LEAST_SIDE."""
    if min(picture.shape[:2]) < LEAST_SIDE:
        return figures(picture, array, n_bytes) | {"ms_ssim": None}
    luma = [np.asarray(Image.fromarray(a).convert("L"), float) for a in (picture, array)]
    return figures(picture, array, n_bytes) | {"ms_ssim": ms_ssim(*luma)}


def judge_file(picture: np.ndarray, data: bytes) -> dict:
    """The same of a file that Pillow reads."""
    return judge(picture, decoded(data, picture.ndim == 2), len(data))
