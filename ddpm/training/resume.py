"""The settings that a call of training goes by: those of the run that is there already, or of a new one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from ddpm.models import runs

from .presets import PRESETS, preset_config
from .settings import TrainConfig, as_json

DEFAULT = "cifar10"
FREE = ("decay_minutes", "compile", "notes")  # what a run may change on its way


def settled(folder: str | Path, preset: str | None, data: Sequence[str], changes: dict) -> TrainConfig:
    """The settings of the run in ``folder``, or of a new one: those of a preset with changes (setting -> value).

    A run that is there keeps its own; ValueError where what is asked for contradicts them.
    """
    if not (Path(folder) / runs.SETTINGS).is_file():
        if not data:
            raise ValueError(f"{folder}: no training run yet; say what pictures to train one on")
        return preset_config(preset or DEFAULT, list(data), changes).check()
    found = runs.settings(folder)
    preset_config(preset or DEFAULT, [], changes)  # whether there are such settings
    try:
        config = TrainConfig(**found).check()
    except (TypeError, ValueError) as e:
        raise ValueError(f"{folder}: not a training run: {e}") from None
    other = preset and (preset != config.preset if config.preset else as_json(PRESETS[preset]["model"]) != config.model)
    if other:
        own = f"preset {config.preset}" if config.preset else "another preset"
        raise ValueError(
            f"{folder} holds a run of {own}, not {preset}; go on with it without --preset, or name another folder"
        )
    for name, value in changes.items():
        own = as_json(getattr(config, name))
        if name in FREE:
            setattr(config, name, value)
        elif own != value:
            raise ValueError(f"{folder} holds a run with {name}={json.dumps(own)}, not {json.dumps(value)}")
    if data:
        config.data = list(data)
    return config.check()
