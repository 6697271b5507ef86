"""The tables that turn a model into a code, measured on pictures that are not for testing.

The Gaussian channel gives z_t the distribution q(z_t | x) at every level, so the mean KL of each step needs no chain:
draw z_t from q, ask the network, and average.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from codec.cli.console import trouble
from codec.errors import CodecError
from codec.lossy import progressive
from codec.lossy.basis import RINGS, basis_for, gain
from codec.lossy.denoise import denoise
from codec.lossy.plan import MAX_STEPS, MEAN, TILTS, UNIT, Plan
from codec.lossy.ratecontrol import Oracle
from ddpm.diffusion.bound import bound, own_steps, terms_for
from ddpm.diffusion.gaussian import Step, kl_nats
from ddpm.diffusion.likelihood import LN2, to_unit
from ddpm.diffusion.reverse import Reverse
from ddpm.diffusion.schedule import Levels
from ddpm.images import lists
from ddpm.models import pretrained, runs
from ddpm.models.load import load_model, save_model
from ddpm.models.model import DDPM, strict_fp32
from ddpm.models.store import find_model, is_run, looks_like, weights_of

from . import context as fit_context

LONG = 512  # bits of a message that are worth a byte of correction
POWERS = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5)  # of m, from which each band has the best
TRAINING = {"used": "training"}  # what a card calls the lists of a run
PATIENCE = 0.002  # of the bits spent so far: what a level may cost more for the network to work at a smaller size


@dataclass
class Costs:
    """KL in bits/dim of each step, (pictures, steps) float64; and per level: the scale at which the network works, and
    the variance of every band relative to a power of the mean of m over the block, by which that KL is smallest."""

    kl: np.ndarray
    scales: list[int]
    bands: list[list[float]]
    powers: list[list[float]]


@torch.inference_mode()
def step_costs(model: DDPM, batches, levels, grey=False, scales=(1,), seed=0, quiet=False) -> Costs:
    """What the steps levels[k] -> levels[k + 1] cost an ideal channel, at the coarsest scale that is hardly dearer.

    batches: tensors (B, 3, H, W) uint8. scales: a sequence to try at every level, or one for each level in a list of
    tuples. ``model.coding`` holds what has been measured before.
    """
    generator = torch.Generator().manual_seed(seed)
    plain = [[1.0] * 3 * RINGS] * len(levels)
    known, pictures = model.coding, [to_unit(as_grey(b) if grey else b).to(model.device) for b in batches]
    bases = [basis_for({**known, "bands": plain, "grey_bands": plain}, tuple(x.shape[2:]), grey) for x in pictures]
    out = Costs([], [], [], [])
    try:
        for k in tqdm(range(len(levels) - 1), disable=True if quiet else None, desc="calibrate"):
            step = Step(levels[k], levels[k + 1])
            noisy = [
                step.alpha_t * x + step.sigma_t * torch.randn(x.shape, generator=generator).to(x.device)
                for x in pictures
            ]
            tried = []
            for scale in (1,) if math.isinf(step.gamma_t) else scales[k] if isinstance(scales, list) else scales:
                model.coding = {**known, "scales": [scale] * len(levels)}
                seen = [denoise(model, k, step.gamma_t, z)[1:] for z in noisy]
                tried.append((scale, *fit_bands(step, k, pictures, seen, bases)))
            best = min(kl.mean() for _, kl, *_ in tried)
            limit = best + PATIENCE * (best + sum(kl.mean() for kl in out.kl))
            scale, kl, bands, powers = max((t for t in tried if t[1].mean() <= limit), key=lambda t: t[0])
            out.kl.append(kl)
            out.scales.append(scale)
            out.bands.append(bands)
            out.powers.append(powers)
    finally:
        model.coding = known
    out.kl = np.stack(out.kl, 1).astype(float)
    return out


def fit_bands(step: Step, level: int, pictures, seen, bases) -> tuple[np.ndarray, list[float], list[float]]:
    """KL of the step in bits/dim for each picture, with the variances and exponents of the bands that fit best."""
    measured = []
    for x, (x_hat, m), basis in zip(pictures, seen, bases):
        delta2 = basis.coordinates(step.delta(x, x_hat)) ** 2
        measured.append((delta2, basis.extra_variance(level, step, m), basis.band.flatten().long().to(m.device)))
    n = max(int(band.max()) for *_, band in measured) + 1

    def total(values):  # of each band
        sums = (
            torch.bincount(b.expand_as(v).flatten(), v.double().flatten(), n) for v, (*_, b) in zip(values, measured)
        )
        return sum(sums)

    counts = total([torch.ones_like(r) for _, r, _ in measured]).clamp(min=1)
    tried = []
    for power in POWERS:
        raised = [gain(step) * (r / gain(step)) ** power for _, r, _ in measured]
        bands = total([delta2 / r for (delta2, *_), r in zip(measured, raised)]) / counts
        bands = [float(f"{max(v, 1e-4):.3g}") for v in bands.tolist()]
        scale = torch.tensor(bands, device=counts.device)
        kl = [kl_nats(delta2, r * scale[b]) for (delta2, _, b), r in zip(measured, raised)]
        tried.append((bands, kl, total(kl)))
    worth = [1.0 if power == 1 else 1.001 for power in POWERS]  # another exponent than 1 should save something
    best = torch.stack([w * sums for w, (*_, sums) in zip(worth, tried)]).argmin(0)
    kl = [torch.stack([kl[i] for _, kl, _ in tried]) for i in range(len(measured))]
    kl = [v.gather(0, best[b].expand_as(v[:1])).mean((0, 2)) / LN2 for v, (*_, b) in zip(kl, measured)]
    best = best.tolist()
    return torch.cat(kl).cpu().numpy(), [tried[p][0][i] for i, p in enumerate(best)], [POWERS[p] for p in best]


def as_grey(batch: torch.Tensor) -> torch.Tensor:
    return batch.float().mean(1, keepdim=True).round().expand(-1, 3, -1, -1)


def lean(costs: np.ndarray) -> np.ndarray:
    """How pictures differ beside a factor: the main direction of the logarithms of their costs, one entry per step.

    The first principal component, cost-weighted mean removed, times the standard deviation of the pictures along it; it
    rises towards fine detail.
    """
    if min(costs.shape) < 3:
        return np.zeros(costs.shape[1])
    spread = np.log(np.maximum(costs, 1e-9))
    spread = spread - spread.mean(0)
    weight = costs.mean(0) / costs.mean()
    spread = spread - (spread * weight).mean(1, keepdims=True)
    _, size, directions = np.linalg.svd(spread, full_matrices=False)
    direction = directions[0] * size[0] / len(costs) ** 0.5
    direction = direction - (direction * weight).mean()
    return direction if direction[-1] > direction[0] else -direction


def tables(costs: np.ndarray, leaning: np.ndarray) -> list[list[int]]:
    """TILTS cumulative tables in units of 2^-UNIT bits/dim: costs leaned by -2 ... 1.5 standard deviations."""
    leaned = [costs * np.exp(leaning * (tilt - MEAN.tilt) / 2) for tilt in range(TILTS)]
    return [[0, *(int(v) for v in np.rint(np.cumsum(c) * 2.0**UNIT))] for c in leaned]


def merged(costs: np.ndarray, levels, dims: int, min_bits: int) -> list[float]:
    """Those of the levels (the first infinite) that give steps of at least ``min_bits`` at this size."""
    table = (0, *(int(v) for v in np.cumsum(costs.mean(0)) * 2.0**UNIT))
    return [round(float(g), 6) for g in Plan(dims, tuple(levels), (table,) * TILTS, min_bits).gammas]


def rehearsed(model: DDPM, batches, grey: bool, quiet: bool) -> np.ndarray:
    """Bits/dim that each step of a coded chain asks for if it gets ``surplus`` times its KL, (pictures, steps)."""
    costs = []
    for batch in tqdm(batches, disable=True if quiet else None, desc="rehearse"):
        dims = batch[0].numel() // (3 if grey else 1)
        levels = (math.inf, *model.coding["levels"])
        plan = Plan(dims, levels, (tuple(range(len(levels))),) * TILTS, min_bits=0)
        spending = [Oracle(plan, model.coding["surplus"]) for _ in batch]
        streams = progressive.encode(model, plan, as_grey(batch) if grey else batch, spending, grey)
        costs += [np.array(s.kl) * model.coding["surplus"] / dims for s in streams]
    return np.stack(costs)


def coding_tables(
    model: DDPM, batches, levels, *, surplus, memory, min_bits, block=8, scales=(1,), thin=None, quiet=False
) -> dict:
    """The ``coding`` entry of a model card. surplus: bits sent per bit of KL by a profile that fits; block: of the
    cosine transform; scales: reductions at which the network may work at noisy levels.

    First the levels are thinned until steps have ``thin`` bits (by default ``min_bits``, which is for smaller pictures
    later on) at the size of these pictures, by the KL of the ideal channel; that KL at the levels kept is the
    ``reference`` that a picture's probe is compared with. Then coded chains say what the steps really ask for, a little
    more, since a message never delivers quite all.
    """
    batches = list(batches)
    some = batches[: max(1, len(batches) // 3)]
    values = torch.cat([to_unit(b).transpose(0, 1).flatten(1) for b in batches], 1)
    model.coding = coding = {
        "mean": [round(float(v), 3) for v in values.mean(1)],
        "variance": round(float(values.var(1).mean()), 3),
        "block": block,
        "long": LONG,
        "free": True,
        "mirrored": True,
        "sphere": True,
        "opposed": True,
        "surplus": surplus,
        "memory": memory,
        "min_bits": min_bits,
    }
    every = [math.inf, *map(float, levels)]
    rough = step_costs(model, some, every, scales=scales, quiet=quiet)
    kept = merged(rough.kl, every, batches[0][0].numel(), min_bits if thin is None else thin)
    coding["levels"] = kept[1:]
    colour = step_costs(model, batches, kept, scales=scales, quiet=quiet)
    grey = step_costs(model, batches, kept, grey=True, scales=[(s,) for s in colour.scales], quiet=quiet)
    # The last level is where no step begins; its picture is made like that of the level before.
    coding["scales"] = colour.scales + colour.scales[-1:]
    coding["bands"], coding["grey_bands"] = (c.bands + c.bands[-1:] for c in (colour, grey))
    coding["powers"], coding["grey_powers"] = (c.powers + c.powers[-1:] for c in (colour, grey))
    leaning = lean(colour.kl)
    for name, ideal, grey_too in (("", colour.kl, False), ("grey_", grey.kl, True)):
        coding[name + "reference"] = [float(f"{v:.5g}") for v in ideal.mean(0)]
        coding[name + "tables"] = tables(rehearsed(model, some, grey_too, quiet).mean(0), leaning)
    return coding | contexts(model, batches, coding)


def contexts(model: DDPM, batches, coding: dict) -> dict:
    """What tables have for lossless files and archives beside those for the chain, of which ``coding`` has the end."""
    return {
        name: fit_context.fit(model, batches, coding["levels"][-1], grey)
        for name, grey in (("context", False), ("grey_context", True))
    }


def sample_pictures(
    sources, tile, images: int, crop: int, seed: int = 0, skip_bad=False
) -> tuple[list[torch.Tensor], list[dict]]:
    """At most ``images`` pictures drawn at random, cropped about the centre to at most ``crop`` x ``crop``.

    Returned as tensors (B, 3, H, W) uint8, pictures of one size together, up to 2^16 pixels a batch; and the lists that
    they were drawn from, see ddpm/images/lists.py.
    """
    pictures, found = lists.read(sources, tile, skip_bad=skip_bad)
    groups: dict[tuple, list[np.ndarray]] = {}
    for i in np.random.default_rng(seed).permutation(len(pictures))[:images]:
        h, w = (min(n, crop) for n in pictures[i].shape[:2])
        top, left = (pictures[i].shape[0] - h) // 2, (pictures[i].shape[1] - w) // 2
        groups.setdefault((h, w), []).append(pictures[i][top : top + h, left : left + w])
    batches = []
    for (h, w), members in groups.items():
        stacked = torch.from_numpy(np.stack(members)).permute(0, 3, 1, 2)
        batches += stacked.split(max(1, (1 << 16) // (h * w)))
    return batches, found["used"]


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
        card = {k: v for k, v in model.card.items() if k not in ("config", "coding", "fingerprint")}
        return model, {**card, "weights": weights_of(find_model(source)).resolve()}
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise CodecError(f"{source}: neither a training run nor a model: {str(e).splitlines()[0]}") from None


def levels_of(model: DDPM, steps: int) -> Sequence[float]:
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
    test=None,
    note=None,
    skip_bad=False,
    device="cpu",
    quiet=False,
) -> tuple[DDPM, int]:
    """Write OUTPUT.safetensors and .json: weights in fp16, coding tables measured on ``data``, the bound on ``test``.

    A model beside the one it is made from shares its weights. The tables of a diffusers model go into its folder
    instead. settings: steps, surplus, memory, min_bits, thin (see ``coding_tables``); None: the model's own tables
    stay, only what they have for lossless files is measured. The card names all pictures by lists' hashes. Returns the
    model, and the number of pictures that it was measured on.
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
    weights = card.pop("weights", None)
    if weights and weights.parent == Path(output).resolve().parent:
        card["weights"] = weights.stem
    model.to(device, memory_format=torch.channels_last)
    strict_fp32()
    try:
        batches, found = sample_pictures(data, tile, images, crop, skip_bad=skip_bad)
        seen = dict(card.get("data", {}))
        measured = {"pictures": sum(len(b) for b in batches), "crop": crop}
        if settings is None:
            if not model.coding:
                raise CodecError(f"{source} has no coding tables to which the context could be added")
            coding = {**model.coding, **contexts(model, batches, model.coding)}
            card["calibration"] = {**card.get("calibration", {}), "context": measured}
            seen["context"] = found
        else:
            coding = coding_tables(model, batches, levels_of(model, settings.pop("steps")), **settings, quiet=quiet)
            card["calibration"] = measured
            seen["calibration"] = found
        if test:
            pictures, seen["test"] = sample_pictures([test], tile, 2048, crop, 1, skip_bad)
            limit = bound(terms_for(Reverse(model), own_steps(model)), pictures, samples=2, quiet=quiet).to_json()
            card["bound"] = {k: v for k, v in limit.items() if v is not None}
            card["summary"] = {"bits_per_dim": round(card["bound"]["total"], 4)}
        card |= {"data": seen, "coding": coding} | ({} if note is None else {"notes": note})
        model.coding = coding
        if beside:
            pretrained.save_tables(source, card)
        else:
            save_model(model, output, card)
    except CodecError:
        raise
    except (OSError, ValueError) as e:
        raise CodecError(trouble(e) if isinstance(e, OSError) else str(e)) from None
    return model, measured["pictures"]


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
