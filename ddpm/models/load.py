"""Any model by its name, ready to evaluate: one of the package, of files, of a diffusers folder or a training run."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load_file as load_arrays
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import load_file, save_file

from ddpm.errors import UnknownModel
from ddpm.files import replace
from ddpm.networks.local import LocalNet

from . import pretrained, runs
from .model import DDPM
from .store import EXACT, find_model, integers_of, looks_like, read_card, weights_of


def load_model(name: str, device: torch.device | str = "cpu") -> DDPM:
    """The model in float32, ready to evaluate, identified."""
    path = find_model(name)
    if (file := weights_of(path)) is None:
        return (pretrained.load_folder if looks_like(path) else runs.load)(path, device)
    card = read_card(path)
    try:
        model = DDPM(card["config"])
        weights = load_file(file)
        model.load_state_dict({k: v.float() for k, v in weights.items()})
        if (integers := integers_of(path)) is not None:
            from ddpm.exact.local import checked  # its compiler takes time to load

            assert isinstance(model.net, LocalNet), "only networks of kind local are exact"
            model.exact = checked(model.net.config, load_arrays(integers))
            model.exact.floats = model.net
    except (SafetensorError, RuntimeError, ValueError, KeyError, TypeError, AssertionError, ArithmeticError) as e:
        raise UnknownModel(f"{path}: not a model: {str(e).splitlines()[0]}") from None
    return model.identified(path.name, card, bytes.fromhex(card["fingerprint"])).placed(device).only_evaluated()


def save_model(model: DDPM, path: str | Path, card: dict, integers: dict[str, np.ndarray] | None = None) -> None:
    """PATH.safetensors (fp16 weights) and PATH.json (``card`` with the config), each written whole or not at all.

    A card that names the ``weights`` of a model beside it goes without any of its own. integers: of an exact network,
    for PATH.exact.safetensors.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if "weights" not in card:
        weights = {k: v.detach().cpu().half().contiguous() for k, v in model.state_dict().items()}
        replace(path.with_name(path.name + ".safetensors"), lambda p: save_file(weights, p))
    if integers is not None:
        replace(path.with_name(path.name + EXACT + ".safetensors"), lambda p: save_arrays(integers, p))
    said = json.dumps({"config": model.config, **card}, indent=1) + "\n"
    replace(path.with_name(path.name + ".json"), lambda p: p.write_text(said))
