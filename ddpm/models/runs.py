"""The folder of a training run: what lies in it, and its model as far as it has come.

config.json has the settings; state.safetensors all that going on needs, its clock too, in one file, so that no two can
disagree; model.safetensors the averaged weights once more on their own; log.jsonl a line every so often.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from ddpm.errors import UnknownModel

from .model import DDPM
from .store import SETTINGS

STATE, AVERAGE, LOG = "state.safetensors", "model.safetensors", "log.jsonl"
CLOCK = "state.json"  # of runs from before the clock lay in STATE


def settings(folder: str | Path) -> dict:
    """Of a run. ValueError if there are none."""
    try:
        found = json.loads((Path(folder) / SETTINGS).read_text())
    except (OSError, ValueError) as e:
        raise ValueError(f"{folder}: not a training run: {e}") from None
    if not isinstance(found, dict):
        raise ValueError(f"{folder}: not a training run: {SETTINGS} holds no settings")
    return found


def clock(folder: str | Path) -> dict:
    """Steps, images and seconds that a run has behind it, and the length of its schedule; {} before the first step."""
    folder = Path(folder)
    if not (folder / STATE).exists():
        return {}
    try:
        with safe_open(folder / STATE, "pt") as file:
            said = (file.metadata() or {}).get("clock")
        found = json.loads((folder / CLOCK).read_text() if said is None else said)
        return {"span": 0.0, **found, "steps": int(found["steps"])}
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as e:
        raise ValueError(f"{folder}: its state is damaged: {str(e).splitlines()[0]}") from None


def average(folder: str | Path) -> dict[str, torch.Tensor]:
    """The averaged weights, as they are in the state: model.safetensors may be a moment older."""
    folder = Path(folder)
    try:
        with safe_open(folder / STATE, "pt") as file:
            names = [name for name in file.keys() if name.startswith("average.")]  # noqa: SIM118
            return {name.removeprefix("average."): file.get_tensor(name) for name in names}
    except FileNotFoundError:
        raise ValueError(f"{folder}: a training run that has not saved a step yet") from None
    except (OSError, SafetensorError) as e:
        raise ValueError(f"{folder}: its state is damaged: {str(e).splitlines()[0]}") from None


def log(folder: str | Path) -> list[dict]:
    """The log's rows up to the state that was saved; half a line at its end is none."""
    path, rows = Path(folder) / LOG, []
    last = clock(folder).get("steps", 0)
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if row["steps"] <= last:
            rows.append(row)
    return rows


def load(folder: str | Path, device: torch.device | str = "cpu") -> DDPM:
    """The model of the averaged weights, rounded to fp16 as in a released one, identified, without coding tables.

    UnknownModel if the folder holds none.
    """
    try:
        config = settings(folder)["model"]
        weights = {k: v.half() for k, v in average(folder).items()}
        model = DDPM(config)
        model.load_state_dict({k: v.float() for k, v in weights.items()})
    except (ValueError, KeyError, TypeError, RuntimeError) as e:
        raise UnknownModel(str(e).splitlines()[0]) from None
    digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode())
    for name in sorted(weights):
        digest.update(weights[name].contiguous().numpy().data)
    model.identified(Path(folder).resolve().name, {"config": config}, digest.digest(), run=str(folder))
    return model.placed(device).only_evaluated()
