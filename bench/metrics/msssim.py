"""Multi-scale structural similarity (Wang, Simoncelli, Bovik 2003), with the constants of its authors."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import correlate1d, uniform_filter

WEIGHTS = np.array([0.0448, 0.2856, 0.3001, 0.2363, 0.1333])
LEAST_SIDE = 11 * 2 ** (len(WEIGHTS) - 1)  # pixels: the window at the coarsest scale


def _blur(image: np.ndarray) -> np.ndarray:
    """11-tap Gaussian of standard deviation 1.5, only where the window fits."""
    window = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
    window /= window.sum()
    return correlate1d(correlate1d(image, window, 0), window, 1)[5:-5, 5:-5]


def ssim_parts(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Means of SSIM and of its contrast-structure part for two grey images of range 255."""
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    mx, my = _blur(x), _blur(y)
    vx, vy, vxy = _blur(x * x) - mx * mx, _blur(y * y) - my * my, _blur(x * y) - mx * my
    cs = (2 * vxy + c2) / (vx + vy + c2)
    return float((cs * (2 * mx * my + c1) / (mx * mx + my * my + c1)).mean()), float(cs.mean())


def ms_ssim(x: np.ndarray, y: np.ndarray) -> float:
    """MS-SSIM of two grey images (H, W), float, range 255; sides of at least LEAST_SIDE, else ValueError."""
    if min(x.shape) < LEAST_SIDE:
        raise ValueError(f"MS-SSIM needs sides of at least {LEAST_SIDE} pixels")
    product = 1.0
    for scale, weight in enumerate(WEIGHTS):
        full, cs = ssim_parts(x, y)
        product *= max(full if scale == len(WEIGHTS) - 1 else cs, 0.0) ** weight
        x, y = (uniform_filter(a, 2, origin=-1)[::2, ::2] for a in (x, y))
    return product
