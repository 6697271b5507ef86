"""How many fewer bits one codec takes than another at equal quality (Bjontegaard 2001)."""

from __future__ import annotations

import numpy as np
from scipy.interpolate import Akima1DInterpolator


def bd_rate(ours, theirs) -> float:
    """Mean difference in bits at equal PSNR, in percent of theirs: -20 says that ours take a fifth less.

    Each (n, 2): rates, and PSNR in dB. The logarithm of the rate is interpolated by Akima's method (1970) over the PSNR
    that both curves reach, and averaged there. ValueError where they have less than 4 points or no PSNR in common.
    """
    curves = []
    for points in (ours, theirs):
        rate, quality = np.array(sorted(points, key=lambda point: point[1]), float).T
        if len(rate) < 4 or (np.diff(quality) <= 0).any():
            raise ValueError("a curve has at least 4 points of different PSNR")
        curves.append(Akima1DInterpolator(quality, np.log(rate)))
    low, high = max(c.x[0] for c in curves), min(c.x[-1] for c in curves)
    if low >= high:
        raise ValueError("the curves have no PSNR in common")
    ours_log, theirs_log = (float(c.integrate(low, high)) / (high - low) for c in curves)
    return 100 * float(np.expm1(ours_log - theirs_log))
