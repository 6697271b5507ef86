"""The settings of the shipped models, as starting points for anyone's own, and those of the paper.

``cifar10`` and ``photo`` suit an hour or two of a CPU, ``cifar10-gpu`` and ``photo-gpu`` a quarter of an hour or more
of a GPU. ``photo-bands`` goes on from the weights of a ``photo`` model.
"""

from __future__ import annotations

from dataclasses import fields

from .bands import photo_bands
from .settings import TrainConfig

PAPER = {"base": 128, "groups": 32, "fourier": [], "embedding": 128, "scale_shift": False}
LONG_RUN = {
    "objective": "simple",
    "betas": (0.9, 0.999),
    "weight_decay": 0.0,
    "warmup": 5000,
    "ema": 0.9999,
    "final_lr": 1.0,
}

LOG_SNR_CIFAR10 = {"kind": "linear-gamma", "gamma_max": 5.5, "gamma_min": -9.2}
LOG_SNR_PHOTO = {"kind": "linear-gamma", "gamma_max": 8.0, "gamma_min": -9.2}
ON_GPU = {"muon": True, "batch": 256, "lr": 2e-3, "warmup": 400, "ema": 0.9995, "final_lr": 0.005}

PRESETS = {
    "cifar10": {
        "model": {
            "schedule": LOG_SNR_CIFAR10,
            "network": {"base": 32, "multipliers": [1, 2, 2, 2], "blocks": [2, 2, 2, 2], "attention": [2]},
            "native": 32,
        },
        "crop": 32,
        "batch": 24,
        "lr": 1.6e-3,
    },
    "cifar10-gpu": {
        "model": {
            "schedule": LOG_SNR_CIFAR10,
            "network": {"base": 64, "multipliers": [1, 2, 2, 2], "blocks": [2, 2, 2, 2], "attention": [2]},
            "native": 32,
        },
        **ON_GPU,
        "crop": 32,
    },
    "photo": {
        "model": {
            "schedule": LOG_SNR_PHOTO,
            "network": {"kind": "local", "widths": [48, 96, 192], "down": [2, 2, 2], "up": [2, 2, 0], "patch": 2},
        },
        "crop": 64,
        "scales": (1, 2, 4),
        "scale_weights": (0.62, 0.28, 0.1),
        "drawn": 0.03,
        "batch": 16,
        "lr": 2e-3,
        "muon": True,
        "focus": 0.5,
    },
    "photo-gpu": {
        "model": {
            "schedule": LOG_SNR_PHOTO,
            "network": {"kind": "local", "widths": [64, 128, 256], "down": [2, 2, 3], "up": [2, 2, 3], "patch": 2},
        },
        **ON_GPU,
        "crop": (64, 128),
        "scales": (1, 2, 4),
        "scale_weights": (0.62, 0.28, 0.1),
        "drawn": 0.06,
        "focus": 0.5,
    },
    # Noise by frequency, from a network that is trained already: --set 'init="WEIGHTS.safetensors"'.
    "photo-bands": {
        "model": {
            "schedule": photo_bands(gamma_min=-9.2),
            "network": {"kind": "local", "widths": [64, 128, 256], "down": [2, 2, 3], "up": [2, 2, 3], "patch": 2},
        },
        "crop": (64, 128, 256),
        "scales": (1, 2, 4),
        "scale_weights": (0.62, 0.28, 0.1),
        "drawn": 0.03,
        "soft": 0.3,
        "batch": 32,
        "lr": 1e-4,
        "muon": True,
        "warmup": 100,
        "ema": 0.998,
        "focus": 0.5,
    },
    # Ho et al. 2020, appendix B, on our network: beside eps_hat it says log m, and it hears gamma in the place of t.
    "ddpm-cifar10": {
        "model": {
            "schedule": {"kind": "linear-beta", "T": 1000, "beta_1": 1e-4, "beta_T": 0.02},
            "network": {**PAPER, "multipliers": [1, 2, 2, 2], "blocks": [2] * 4, "attention": [1], "dropout": 0.1},
            "native": 32,
        },
        **LONG_RUN,
        "crop": 32,
        "batch": 128,
        "lr": 2e-4,
        "decay_images": 800_000 * 128,
    },
    "ddpm-256": {
        "model": {
            "schedule": {"kind": "linear-beta", "T": 1000, "beta_1": 1e-4, "beta_T": 0.02},
            "network": {**PAPER, "multipliers": [1, 1, 2, 2, 4, 4], "blocks": [2] * 6, "attention": [4]},
            "native": 256,
        },
        **LONG_RUN,
        "crop": 256,
        "batch": 64,
        "lr": 2e-5,
        "decay_images": 2_400_000 * 64,
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
    settings = {**PRESETS[name], "data": data, "preset": name, **(changes or {})}
    known = {f.name for f in fields(TrainConfig)}
    if unknown := set(settings) - known:
        raise ValueError(f"no such setting: {', '.join(sorted(unknown))}; known: {', '.join(sorted(known))}")
    return TrainConfig(**settings)
