"""How many fewer bits one codec takes than another at equal quality, in the mean (Bjontegaard 2001) and at points.

Curves are (n, 2): rates, and PSNR in dB. The logarithm of the rate is interpolated by Akima's method (1970) over PSNR;
points of rate 0 have none and are left out.
"""

from __future__ import annotations

import numpy as np
from scipy.interpolate import Akima1DInterpolator

POINTS = 2000  # at which two curves are compared to find where they cross


def log_rate(points) -> Akima1DInterpolator:
    """PSNR -> the logarithm of the rate, NaN where the curve does not reach.

    ValueError for less than 2 points or if two have the same PSNR.
    """
    rate, quality = np.array(sorted((p for p in points if p[0] > 0), key=lambda p: p[1]), float).reshape(-1, 2).T
    if len(rate) < 2 or (np.diff(quality) <= 0).any():
        raise ValueError("a curve has at least 2 points of different PSNR")
    return Akima1DInterpolator(quality, np.log(rate))


def in_common(*curves: Akima1DInterpolator) -> tuple[float, float]:
    """The PSNR that all curves reach, from and to; ValueError if there is none."""
    low, high = max(float(c.x[0]) for c in curves), min(float(c.x[-1]) for c in curves)
    if low >= high:
        raise ValueError("the curves have no PSNR in common")
    return low, high


def bd_rate(ours, theirs, between: tuple[float, float] | None = None) -> float:
    """Mean difference in bits at equal PSNR, in percent of theirs: -20 says that ours take a fifth less.

    The mean is of logarithms, over the PSNR that both curves reach, or ``between`` these. ValueError where they have
    less than 4 points or no PSNR in common, or do not reach as far as they should.
    """
    curves = log_rate(ours), log_rate(theirs)
    if any(len(c.x) < 4 for c in curves):
        raise ValueError("a curve has at least 4 points for a mean")
    reach = in_common(*curves)
    low, high = between or reach
    if low < reach[0] or high > reach[1]:
        raise ValueError(f"the curves have {reach[0]:.1f} to {reach[1]:.1f} dB in common, not {low} to {high}")
    ours_log, theirs_log = (float(c.integrate(low, high)) / (high - low) for c in curves)
    return 100 * float(np.expm1(ours_log - theirs_log))


def lower_envelope(curves: list) -> list[tuple[int, int]]:
    """Of several curves the points that no other curve undercuts, as far as it reaches: (curve, point), by rising PSNR.

    A codec that has settings is at its best along these.
    """
    known = []
    for curve in curves:
        try:
            known.append(log_rate(curve))
        except ValueError:
            known.append(None)  # a single point undercuts nothing
    kept = []
    for i, curve in enumerate(curves):
        others = [c for k, c in enumerate(known) if c is not None and k != i]
        for k, (rate, quality) in enumerate(curve):
            if not any(c(quality) < np.log(rate) for c in others):  # NaN, where the other does not reach, is not less
                kept.append((quality, i, k))
    return [(i, k) for _, i, k in sorted(kept)]


def extra_bits(ours, theirs, psnr: float) -> float | None:
    """Difference in bits at a PSNR, in percent of theirs; None where one of the curves does not reach."""
    difference = float(log_rate(ours)(psnr) - log_rate(theirs)(psnr))
    return None if np.isnan(difference) else 100 * float(np.expm1(difference))


def ahead(ours, theirs) -> list[tuple[float, float]]:
    """The ranges of rate, from and to, in which ours has the higher PSNR, as far as both curves reach.

    ValueError if they have no PSNR in common.
    """
    curves = log_rate(ours), log_rate(theirs)
    low, high = in_common(*curves)
    quality = np.linspace(low, high, POINTS)
    rates, better = np.exp(curves[0](quality)), curves[0](quality) < curves[1](quality)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], better, [False]]).astype(int)))
    return [(float(rates[a]), float(rates[b - 1])) for a, b in zip(edges[::2], edges[1::2])]
