"""The tables that turn a model into a code, measured on pictures that are not for testing.

The Gaussian channel gives z_t the distribution q(z_t | x) at every level, so the mean KL of each step needs no chain:
draw z_t from q, ask the network, and average.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from tqdm import tqdm

from ddpm.bound import bound
from ddpm.data import load_images
from ddpm.gaussian import Step, kl_nats
from ddpm.likelihood import LN2, to_unit
from ddpm.model import DDPM, ModelError, load_model, save_model, strict_fp32

from .errors import CodecError
from .plan import UNIT


@torch.inference_mode()
def step_costs(model: DDPM, batches, levels, grey=False, grey_variance=1.0, seed=0, quiet=False):
    """Mean over pictures of KL in bits/dim for each step levels[k] -> levels[k + 1], and of delta^2 and r.

    batches: tensors (B, 3, H, W) uint8. Returns three float64 arrays, one entry per step.
    """
    generator = torch.Generator().manual_seed(seed)
    sums, weight = np.zeros((3, len(levels) - 1)), 0
    for batch in tqdm(batches, disable=True if quiet else None, desc="calibrate"):
        if grey:
            batch = batch.float().mean(1, keepdim=True).round().expand(-1, 3, -1, -1)
        x = to_unit(batch)
        for k in range(len(levels) - 1):
            step = Step(levels[k], levels[k + 1])
            z = step.alpha_t * x + step.sigma_t * torch.randn(x.shape, generator=generator)
            z = z.to(model.device).contiguous(memory_format=torch.channels_last)
            eps_hat, log_m = model(z, torch.full((len(z),), step.gamma_t, device=model.device))
            x_hat, m = step.x_hat(z, eps_hat).clamp(-1, 1), log_m.exp()
            delta, r = step.delta(x.to(model.device), x_hat), step.gain * m
            if grey:
                delta, r = delta.sum(1) / 3**0.5, r.mean(1) * grey_variance
            terms = [kl_nats(delta**2, r) / LN2, delta**2, r]
            sums[:, k] += [float(t.mean()) * batch.numel() for t in terms]
        weight += batch.numel()
    return sums / weight


def cumulative_table(bits_per_dim: np.ndarray, surplus: float) -> list[int]:
    """Integers for ``Plan``: cumulative bits/dim times ``surplus`` in units of 2^-UNIT."""
    return [0, *(int(v) for v in np.rint(np.cumsum(bits_per_dim) * surplus * 2.0**UNIT))]


def coding_tables(model: DDPM, batches, levels, *, surplus, memory, min_bits, quiet=False) -> dict:
    """The ``coding`` entry of a model card. surplus: bits sent per bit of KL at multiplier 1."""
    batches = list(batches)
    colour, _, _ = step_costs(model, batches, levels, quiet=quiet)
    _, delta2, r = step_costs(model, batches, levels, grey=True, quiet=quiet)
    grey_variance = round(float(delta2.sum() / r.sum()), 3)
    grey, _, _ = step_costs(model, batches, levels, grey=True, grey_variance=grey_variance, quiet=quiet)
    return {
        "levels": [round(float(g), 6) for g in levels],
        "cumulative": cumulative_table(colour, surplus),
        "grey_cumulative": cumulative_table(grey, surplus),
        "grey_variance": grey_variance,
        "surplus": surplus,
        "memory": memory,
        "min_bits": min_bits,
    }


def sample_pictures(sources, tile, images: int, crop: int, seed: int = 0) -> list[torch.Tensor]:
    """At most ``images`` pictures drawn at random, cropped about the centre to at most ``crop`` x ``crop``.

    Returned as tensors (B, 3, H, W) uint8, pictures of one size together, up to 2^16 pixels a batch.
    """
    pictures = [p for source in sources for p in load_images(source, tile)]
    groups: dict[tuple, list[np.ndarray]] = {}
    for i in np.random.default_rng(seed).permutation(len(pictures))[:images]:
        h, w = (min(n, crop) for n in pictures[i].shape[:2])
        top, left = (pictures[i].shape[0] - h) // 2, (pictures[i].shape[1] - w) // 2
        groups.setdefault((h, w), []).append(pictures[i][top : top + h, left : left + w])
    batches = []
    for (h, w), members in groups.items():
        stacked = torch.from_numpy(np.stack(members)).permute(0, 3, 1, 2)
        batches += stacked.split(max(1, (1 << 16) // (h * w)))
    return batches


def trained(source: str) -> tuple[DDPM, dict]:
    """A training run's folder (its averaged weights) or a model, weights rounded to fp16; and what to say of it."""
    folder = Path(source)
    try:
        if (folder / "config.json").is_file():
            settings = json.loads((folder / "config.json").read_text())
            log = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
            model = DDPM(settings["model"])
            weights = load_file(folder / "model.safetensors")
            model.load_state_dict({k: v.half().float() for k, v in weights.items()})
            thin = log[:: max(1, len(log) // 40)] + log[-1:]
            return model.eval(), {"training": {k: v for k, v in settings.items() if k != "model"}, "log": thin}
        model = load_model(source)
        return model, {k: v for k, v in model.card.items() if k not in ("config", "coding", "fingerprint")}
    except ModelError as e:
        raise CodecError(str(e)) from None
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as e:
        raise CodecError(f"{source}: neither a training run nor a model: {str(e).splitlines()[0]}") from None


def release(source, data, output, *, tile, images, crop, settings, test=None, device="cpu", quiet=False) -> None:
    """Write OUTPUT.safetensors and .json: weights in fp16, coding tables measured on ``data``, the bound on ``test``.

    settings: steps, surplus, memory, min_bits (see ``coding_tables``).
    """
    model, card = trained(source)
    model.to(device, memory_format=torch.channels_last)
    strict_fp32()
    try:
        batches = sample_pictures(data, tile, images, crop)
        levels = model.schedule.gammas(settings.pop("steps"))
        coding = coding_tables(model, batches, levels, **settings, quiet=quiet)
        card["calibration"] = {"pictures": sum(len(b) for b in batches), "crop": crop}
        if test:
            pictures = sample_pictures([test], tile, 2048, crop, seed=1)
            card["bound"] = bound(model, pictures, quiet=quiet)
            card["summary"] = {"bits_per_dim": round(card["bound"]["total"], 4)}
    except (FileNotFoundError, ValueError) as e:
        raise CodecError(str(e)) from None
    save_model(model, output, {**card, "coding": coding})
