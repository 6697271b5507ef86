"""Models by name: where they lie, which one is meant, what their cards say. Nothing here needs torch."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

from ddpm.errors import UnknownModel

STEM = "diffusion_pytorch_model"  # of the weights of a diffusers model, see pretrained.py
SETTINGS = "config.json"  # of a training run
EXACT = ".exact"  # in the name of the file of a model's network in integers, see docs/exact.md
PICKLES = (".bin", ".pt", ".pth", ".ckpt")


def shipped_models() -> dict[str, Path]:
    """Name -> path (without suffix) of the models in the package and in the folder $DDPM_CODEC_MODELS, newest last."""
    folders = [Path(__file__).parents[1] / "weights"]
    if os.environ.get("DDPM_CODEC_MODELS"):
        folders.append(Path(os.environ["DDPM_CODEC_MODELS"]).expanduser())
    files = (p for folder in folders for kind in ("*.safetensors", "*.json") for p in folder.glob(kind))
    paths = (p.with_suffix("") for p in files)
    found = {p.name: p for p in paths if not p.name.endswith(EXACT) and weights_of(p)}
    return dict(sorted(found.items(), key=lambda item: line_and_number(item[0])))


def weights_of(path: Path) -> Path | None:
    """The file of a model's weights: its own, or that of the model beside it which its card names; None without one.

    Models of the same weights differ in their coding tables.
    """
    own = path.with_name(path.name + ".safetensors")
    if own.is_file():
        return own
    try:
        name = json.loads(path.with_name(path.name + ".json").read_text())["weights"]
        shared = path.with_name(Path(name).name + ".safetensors")
        return shared if shared.is_file() else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def integers_of(path: Path) -> Path | None:
    """The file of a model's exact network; None without one."""
    file = path.with_name(path.name + EXACT + ".safetensors")
    return file if file.is_file() else None


def line_and_number(name: str) -> tuple[str, int]:
    """``photo-10`` -> (``photo``, 8); a name without a number is a line of its own, number 0."""
    line, _, number = name.rpartition("-")
    return (line, int(number)) if number.isdigit() else (name, 0)


def find_model(name: str) -> Path:
    """Path (without suffix) of a model: a name (``photo-10``), a line (``photo``: its newest), or a file.

    Or the folder of a diffusers model, see pretrained.py, or of a training run, see runs.py.
    """
    models = shipped_models()
    if name in models:
        return models[name]
    line = [path for known, path in models.items() if line_and_number(known)[0] == name]
    if line:
        return line[-1]
    path = Path(name).expanduser()
    path = path.with_suffix("") if path.suffix in (".safetensors", ".json") else path
    path = path if path.name else path.resolve()
    if path.name and weights_of(path):
        return path
    if looks_like(path) or is_run(path):
        return path
    if path.suffix in PICKLES and path.is_file():
        refuse_pickle(path)
    raise UnknownModel(f"no model {name!r}; known: {', '.join(models) or 'none'}")


def read_card(path: Path) -> dict:
    """The model card beside the weights; also its ``fingerprint``, and whether it is ``exact``: has a network in
    integers.
    """
    try:
        card = json.loads(path.with_name(path.name + ".json").read_text())
        decides = integers_of(path) or weights_of(path) or path.with_name(path.name + ".safetensors")
        found = {"fingerprint": fingerprint_of(card["config"], card.get("coding"), decides)}
        return card | found | {"exact": integers_of(path) is not None}
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise UnknownModel(f"{path}: not a model: {e}") from None


def fingerprint_of(config: dict, coding: dict | None, weights: Path) -> str:
    """SHA-256 over all that decoding depends on."""
    essence = json.dumps([config, coding], sort_keys=True, separators=(",", ":"))
    begun = hashlib.sha256(hashlib.sha256(essence.encode()).digest())
    with weights.open("rb") as file:
        return hashlib.file_digest(file, lambda: begun).hexdigest()


def looks_like(folder: Path) -> bool:
    """Whether a folder is meant as such a model, whole or not."""
    marks = ("model_index.json", "scheduler_config.json", "scheduler/scheduler_config.json", "unet/config.json")
    return any((folder / mark).is_file() for mark in marks) or any(folder.glob(STEM + ".*"))


def is_run(folder: str | Path) -> bool:
    """Whether a folder is a training run's, at least begun."""
    try:
        return "schedule" in json.loads((Path(folder) / SETTINGS).read_text())["model"]
    except (OSError, ValueError, KeyError, TypeError):
        return False


def refuse_pickle(path: Path) -> None:
    """UnknownModel that says how to make a safetensors file of it."""
    raise UnknownModel(
        f"{path}: pickled weights can run code and are not opened; if you trust them, convert them: diffusers."
        "UNet2DModel.from_pretrained(FOLDER, use_safetensors=False).save_pretrained(FOLDER, safe_serialization=True)"
    )
