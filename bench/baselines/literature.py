"""Rate-distortion points that others published, from published/*.json; each curve there names its source."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from codec.api import psnr

FOLDER = Path(__file__).parents[1] / "published"


@dataclass(frozen=True)
class Published:
    """A curve: points by "bits_per_dim", "psnr" (dB), "rmse" (grey levels) and, of a chain, "reverse_steps"."""

    source: str
    points: list[dict]
    ideal: bool = False  # a sum of KL, which no code sends
    brief: bool = False  # one of those that stand in diagrams and in the README


def read(name: str) -> dict:
    """A file as it is: "about", "curves" and what else it has."""
    return json.loads((FOLDER / f"{name}.json").read_text())


def published(name: str) -> dict[str, Published]:
    """The curves of ``kodak`` or ``cifar10`` by their names."""
    return {
        k: Published(c["source"], _points(c), c.get("ideal", False), c.get("brief", False))
        for k, c in read(name)["curves"].items()
    }


def bounds() -> list[tuple[str, list[str]]]:
    """Of other networks on CIFAR-10: name, and rate, distortion and bits/dim as printed, or nothing."""
    keys = ("rate", "distortion", "bits_per_dim")
    return [(name, [f"{b[k]:.2f}" if k in b else "" for k in keys]) for name, b in read("cifar10")["bounds"].items()]


def _points(curve: dict) -> list[dict]:
    columns = {key: values for key, values in curve.items() if isinstance(values, list)}
    points = [dict(zip(columns, values)) for values in zip(*columns.values())]
    for p in points:
        if "bits_per_pixel" in p:
            p["bits_per_dim"] = p.pop("bits_per_pixel") / 3
        if "rmse" in p:
            p["psnr"] = psnr(p["rmse"] ** 2)
        else:
            p["rmse"] = 255 / 10 ** (p["psnr"] / 20)
    return points
