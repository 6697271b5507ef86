"""The trellis against another scheme, from the rows of ``measure``: at equal bits, and in equal time."""

from __future__ import annotations

import numpy as np


def at_equal_bits(rows: list[dict], other: str) -> list[dict]:
    """The other scheme's efficiency where it spends the bits of a trellis: a row for each trellis and other setting.

    Efficiency is interpolated in the logarithm of bits; there is no row where the other's do not reach. "saved" is the
    part of the other's bits that the trellis can do without.
    """
    found = []
    for ours in _of(rows, "trellis"):
        for setting in _settings(rows, other):
            points = sorted((r["bits"], r["efficiency"]) for r in _of(rows, other) if r["parameters"] == setting)
            bits, efficiency = np.array(points).T
            if bits[0] <= ours["bits"] <= bits[-1]:
                e = float(np.interp(np.log(ours["bits"]), np.log(bits), efficiency))
                found.append(_pair(ours, setting, e) | {"bits": ours["bits"], "saved": 1 - e / ours["efficiency"]})
    return found


def in_equal_time(rows: list[dict], other: str) -> list[dict]:
    """For each trellis the best of the other's settings at the same KL that encode in no more time.

    If none does it is the fastest; "times" is how many times as long it takes.
    """
    found = []
    for ours in _of(rows, "trellis"):
        same = [r for r in _of(rows, other) if r["kl"] == ours["kl"]]
        within = [r for r in same if r["encode_seconds"] <= ours["encode_seconds"]]
        if same:
            fastest = min(same, key=lambda r: r["encode_seconds"])
            best = max(within, key=lambda r: r["efficiency"], default=fastest)
            times = best["encode_seconds"] / ours["encode_seconds"]
            found.append(_pair(ours, best["parameters"], best["efficiency"]) | {"kl": ours["kl"], "times": times})
    return found


def _of(rows: list[dict], scheme: str) -> list[dict]:
    return [r for r in rows if r["scheme"] == scheme]


def _settings(rows: list[dict], scheme: str) -> list[dict]:
    settings = [r["parameters"] for r in _of(rows, scheme)]
    return [s for i, s in enumerate(settings) if s not in settings[:i]]


def _pair(ours: dict, setting: dict, efficiency: float) -> dict:
    own = {"memory": ours["parameters"]["memory"], "efficiency": ours["efficiency"]}
    return own | {"other": setting, "other_efficiency": efficiency}
