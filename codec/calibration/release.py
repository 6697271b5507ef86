"""A model that codes, from a training run or a model and pictures: weights, tables, and a card that says all."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch

from codec.errors import CodecError, as_mistakes
from codec.lossy.plan import MAX_STEPS
from codec.lossy.tables import CodingTables
from ddpm.diffusion.bound import bound, own_steps, terms_for
from ddpm.diffusion.reverse import Reverse
from ddpm.diffusion.schedule import Levels
from ddpm.exact.local import ExactLocalNet
from ddpm.images import lists
from ddpm.images.batches import batches, middle
from ddpm.models import pretrained, runs
from ddpm.models.load import load_model, save_model
from ddpm.models.model import DDPM, strict_fp32
from ddpm.models.store import find_model, is_run, looks_like, weights_of
from ddpm.networks.local import LocalNet

from .exact import exact_tensors
from .tables import coding_tables, with_context

BATCH_PIXELS = 1 << 16
EXACT_PIXELS = 1 << 19  # that a network is watched on, to be made exact
TRAINING = {"used": "training"}  # what a card calls the lists of a run


def sample_pictures(
    sources, *, tile: int | None, images: int, crop: int, seed: int = 0, skip_bad=False
) -> tuple[list[torch.Tensor], list[dict]]:
    """At most ``images`` pictures drawn at random, cropped about the centre to at most ``crop`` x ``crop``.

    Returned as tensors (B, 3, H, W) uint8, pictures of one size together, up to BATCH_PIXELS a batch; and the lists
    that they were drawn from, see ddpm/images/lists.py.
    """
    pictures, found = lists.read(sources, tile, skip_bad=skip_bad)
    crops = [middle(pictures[i], crop) for i in np.random.default_rng(seed).permutation(len(pictures))[:images]]
    return [batch.x for batch in batches(crops, BATCH_PIXELS, by_grey=False)], found["used"]


def trained(source: str) -> tuple[DDPM, dict]:
    """A training run's folder (its averaged weights) or a model, weights rounded to fp16; and what to say of it, with
    the path of a model's ``weights``.

    A diffusers model comes as it is, without its tables.
    """
    folder = Path(source)
    try:
        if looks_like(folder):
            return pretrained.load_folder(folder, tables=False), {}
        if is_run(folder):
            model, settings, log = runs.load(folder), runs.settings(folder), runs.log(folder)
            thin = log[:: max(1, len(log) // 40)] + log[-1:]
            used = settings.pop("lists", {})
            card = {"training": {k: v for k, v in settings.items() if k != "model"} | runs.clock(folder), "log": thin}
            return model, card | {"data": {TRAINING.get(k, k): v for k, v in used.items()}}
        model = load_model(source)
        card = {k: v for k, v in model.card.items() if k not in ("config", "coding", "fingerprint", "exact")}
        if (weights := weights_of(find_model(source))) is None:
            raise ValueError("its weights are in no file of their own")
        return model, {**card, "weights": weights.resolve()}
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise CodecError(f"{source}: neither a training run nor a model: {str(e).splitlines()[0]}") from None


def levels_of(model: DDPM, steps: int) -> np.ndarray:
    """Of noise, for a chain of so many steps. ValueError if a file cannot have them."""
    if not 1 <= steps <= MAX_STEPS - 1:
        raise ValueError(f"a chain has 1 to {MAX_STEPS - 1} steps, not {steps}")
    schedule = model.schedule  # one of betas has few of its levels where the noise is low
    return schedule.spread(steps) if isinstance(schedule, Levels) else schedule.gammas(steps)


def release(
    source,
    data,
    output,
    *,
    tile,
    images,
    crop,
    settings,
    exact=False,
    test=None,
    note=None,
    skip_bad=False,
    device="cpu",
    quiet=False,
) -> tuple[CodingTables, int]:
    """Write OUTPUT.safetensors and .json: weights in fp16, coding tables measured on ``data``, the bound on ``test``.

    A model beside the one it is made from shares its weights. The tables of a diffusers model go into its folder
    instead. settings: steps, surplus, memory, min_bits, thin (see ``coding_tables``); None: the model's own tables
    stay, only what they have for lossless files is measured. exact: the tables stay. Networks of kind local are
    made exact whenever they get tables, and with ``exact``, see ``exact_tensors``. The card names all pictures by
    lists' hashes. Returns the tables, and the number of pictures that they were measured on.
    """
    beside = looks_like(Path(source))
    if beside != (output is None):
        raise CodecError(
            f"{source}: the tables of a diffusers model are stored in its folder; leave -o out"
            if beside
            else "say with -o where to write the model"
        )
    if not beside:
        check_place(output)
    model, card = trained(source)
    if (weights := card.pop("weights", None)) and weights.parent == Path(output).resolve().parent:
        card["weights"] = weights.stem
    model.placed(device)
    strict_fp32()
    how = {"tile": tile, "crop": crop, "skip_bad": skip_bad}
    with as_mistakes():
        batches, used = sample_pictures(data, images=images, **how)
        pictures = sum(len(b) for b in batches)
        tables, integers = measure(source, model, batches, settings, exact=exact, quiet=quiet)
        name = "exact" if exact else "context" if settings is None else "calibration"
        says = {"pictures": pictures, "crop": crop}
        card["calibration"] = says if settings is not None else {**card.get("calibration", {}), name: says}
        card["data"] = {**card.get("data", {}), name: used}
        if test:
            tested, card["data"]["test"] = sample_pictures([test], images=2048, seed=1, **how)
            limit = bound(terms_for(Reverse(model), own_steps(model)), tested, samples=2, quiet=quiet).to_json()
            card["bound"] = {k: v for k, v in limit.items() if v is not None}
            card["summary"] = {"bits_per_dim": round(card["bound"]["total"], 4)}
        card |= {"coding": tables.to_card()} | ({} if note is None else {"notes": note})
        if beside:
            pretrained.save_tables(source, card)
        else:
            save_model(model, output, card, integers)
    return tables, pictures


def measure(source, model: DDPM, batches, settings: dict | None, *, exact: bool, quiet: bool):
    """The tables of a model, by ``coding_tables`` with these settings, without any its own with a new context, or as
    they are if it is made ``exact``; and the tensors of its exact network, if it is of a kind that needs them."""
    local = isinstance(model.net, LocalNet)
    if exact and not local:
        raise CodecError(f"{source}: its network is exact as it is")
    if settings is not None:
        settings = dict(settings)
        tables = coding_tables(model, batches, levels_of(model, settings.pop("steps")), **settings, quiet=quiet)
    elif (tables := CodingTables.of_model(model)) is None:
        raise CodecError(f"{source} has no coding tables to which this could be added")
    elif not exact:
        tables = with_context(model, batches, tables)
        if isinstance(model.exact, ExactLocalNet):
            return tables, model.exact.tensors
    return tables, exact_tensors(model.placed("cpu"), tables, few_of(batches), quiet=quiet) if local else None


def few_of(batches: list[torch.Tensor]) -> list[torch.Tensor]:
    """The first pictures of each batch: as many as networks are made exact by in some minutes."""
    pixels = sum(b.shape[0] * b.shape[2] * b.shape[3] for b in batches)
    return [b[: max(1, len(b) * EXACT_PIXELS // max(pixels, EXACT_PIXELS))] for b in batches]


def check_place(output: str) -> None:
    """CodecError now where a model could not be written in the end."""
    path = Path(output)
    if not path.name or path.is_dir():
        raise CodecError(f"{output}: name the model, not a folder, with -o")
    above = next(folder for folder in path.absolute().parents if folder.exists())
    if not above.is_dir():
        raise CodecError(f"{above}: Not a directory")
    if not os.access(above, os.W_OK):
        raise CodecError(f"{above}: Permission denied")
