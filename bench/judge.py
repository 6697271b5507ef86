"""What a decoded picture is worth: bytes, bits/dim, squared error and MS-SSIM."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from .msssim import ms_ssim


def judge(picture: np.ndarray, array: np.ndarray, n_bytes: int) -> dict:
    """A file of so many bytes that shows ``array``, both uint8 (H, W, 3): MSE of RGB, MS-SSIM of luma."""
    luma = [np.asarray(Image.fromarray(a).convert("L"), float) for a in (picture, array)]
    error = float(np.mean((array.astype(float) - picture) ** 2))
    return {"bytes": n_bytes, "bits_per_dim": 8 * n_bytes / picture.size, "mse": error, "ms_ssim": ms_ssim(*luma)}


def judge_file(picture: np.ndarray, data: bytes) -> dict:
    """The same of a file that Pillow reads."""
    return judge(picture, np.asarray(Image.open(io.BytesIO(data)).convert("RGB")), len(data))
