"""The settings of the shipped models, as starting points for anyone's own."""

from __future__ import annotations

from dataclasses import fields

from .train import TrainConfig

PRESETS = {
    "cifar10": {
        "model": {
            "schedule": {"kind": "linear-gamma", "gamma_max": 5.5, "gamma_min": -9.2},
            "network": {"base": 32, "multipliers": [1, 2, 2, 2], "blocks": [2, 2, 2, 2], "attention": [2]},
            "native": 32,
        },
        "crop": 32,
        "batch": 24,
        "lr": 1.6e-3,
    },
    "photo": {
        "model": {
            "schedule": {"kind": "linear-gamma", "gamma_max": 8.0, "gamma_min": -9.2},
            "network": {"base": 32, "multipliers": [1, 2, 2, 2], "blocks": [2, 2, 2, 2], "attention": []},
        },
        "crop": 64,
        "scales": (1, 2, 4),
        "scale_weights": (0.62, 0.28, 0.1),
        "batch": 8,
        "lr": 1e-3,
        "warmup": 300,
        "focus": 0.5,
    },
    "tiny": {
        "model": {
            "schedule": {"kind": "linear-gamma", "gamma_max": 5.5, "gamma_min": -9.2},
            "network": {"base": 8, "multipliers": [1, 2], "blocks": [1, 1], "attention": [1], "groups": 4},
        },
        "crop": 16,
        "batch": 8,
        "warmup": 10,
    },
}


def preset_config(name: str, data: list[str], changes: dict | None = None) -> TrainConfig:
    """The preset with ``changes`` (setting -> value) on top; ValueError for a setting that does not exist."""
    settings = {**PRESETS[name], "data": data, **(changes or {})}
    known = {f.name for f in fields(TrainConfig)}
    if unknown := set(settings) - known:
        raise ValueError(f"no such setting: {', '.join(sorted(unknown))}; known: {', '.join(sorted(known))}")
    return TrainConfig(**settings)
