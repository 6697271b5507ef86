"""The tables that turn a model into a code, measured on pictures that are not for testing.

The Gaussian channel gives z_t the distribution q(z_t | x) at every level, so the mean KL of each step needs no chain:
draw z_t from q, ask the network, and average.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from tqdm import tqdm

from codec.lossy import progressive
from codec.lossy.basis import Cosines
from codec.lossy.denoise import denoise
from codec.lossy.plan import MEAN, TILTS, UNIT, Plan
from codec.lossy.ratecontrol import Oracle
from codec.lossy.setting import Setting
from codec.lossy.tables import CodingTables, Tables
from ddpm.diffusion.bands import BANDS, COLOURS, EVEN, RINGS, Bands
from ddpm.diffusion.gaussian import kl_nats
from ddpm.diffusion.likelihood import LN2, to_unit
from ddpm.diffusion.process import BandStep
from ddpm.models.model import DDPM

from . import context

LEAST = 1e-7  # variance of a band
POWERS = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5)  # of m, from which each band has the best
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
def step_costs(model: DDPM, tables: CodingTables, batches, *, grey=False, scales=(1,), seed=0, quiet=False) -> Costs:
    """What the steps between the levels of the tables cost an ideal channel, at the coarsest scale that is hardly
    dearer.

    batches: tensors (B, 3, H, W) uint8. scales: a sequence to try at every level, or one for each level in a list of
    tuples. Of the tables mean, variance, block, levels and noise are used.
    """
    generator, levels = torch.Generator().manual_seed(seed), tables.gammas
    pictures = [to_unit(as_grey(b) if grey else b).to(model.device) for b in batches]
    ones = ((1.0,) * COLOURS * RINGS,) * len(levels)
    plain = Tables(bands=ones, powers=ones)
    bases = [Cosines(replace(tables, colour=plain, grey=plain), (x.shape[2], x.shape[3]), grey) for x in pictures]
    chosen: list[tuple[int, np.ndarray, list[float], list[float]]] = []
    for k in tqdm(range(len(levels) - 1), disable=True if quiet else None, desc="calibrate"):
        step = bases[0].step(levels[k], levels[k + 1])
        noise = [torch.randn(x.shape, generator=generator).to(x.device) for x in pictures]
        seen = [basis.seen(step, x, eps) for basis, x, eps in zip(bases, pictures, noise)]
        tried = []
        for scale in (1,) if math.isinf(step.gamma_t) else scales[k] if isinstance(scales, list) else scales:
            scaled = replace(tables, scales=(scale,) * len(levels))
            found = [denoise(model, scaled, k, z) for z in seen]
            tried.append((scale, *fit_bands(step, k, pictures, found, bases)))
        best = min(kl.mean() for _, kl, *_ in tried)
        limit = best + PATIENCE * (best + sum(kl.mean() for _, kl, *_ in chosen))
        chosen.append(max((t for t in tried if t[1].mean() <= limit), key=lambda t: t[0]))
    kept, kl, bands, powers = zip(*chosen)
    return Costs(np.stack(kl, 1).astype(float), list(kept), list(bands), list(powers))


def fit_bands(step: BandStep, level: int, pictures, found, bases) -> tuple[np.ndarray, list[float], list[float]]:
    """KL of the step in bits/dim for each picture, with the variances and exponents of the bands that fit best.

    found: x_hat and m of each batch. bases: with variances and exponents of 1.
    """
    noise, measured = math.exp(-step.gamma_t) if math.isfinite(step.gamma_t) else 1.0, []
    for x, (x_hat, m), basis in zip(pictures, found, bases):
        error2 = basis.coordinates(x - x_hat) ** 2 * noise  # in units of m
        own, band = basis.extra_variance(level, np.ones(BANDS), m), basis.band[: basis.colours].long()
        measured.append((error2.flatten(1), own.flatten(1), band.flatten().to(m.device)))
    n = RINGS * bases[0].colours
    gain = torch.tensor(step.gain[:n], dtype=torch.float32, device=measured[0][0].device)

    def total(values: list[torch.Tensor]) -> torch.Tensor:  # of each band
        sums = (
            torch.bincount(b.expand_as(v).flatten(), v.double().flatten(), n) for v, (*_, b) in zip(values, measured)
        )
        return sum(sums, start=values[0].new_zeros(()))

    counts = total([torch.ones_like(own) for _, own, _ in measured]).clamp(min=1)
    tried = []
    for power in POWERS:
        raised = [own**power for _, own, _ in measured]
        bands = total([error2 / r for (error2, *_), r in zip(measured, raised)]) / counts
        bands = [float(f"{max(v, LEAST):.3g}") for v in bands.tolist()]
        scale = gain * torch.tensor(bands, device=gain.device)
        kl = [kl_nats(gain[b] * error2, scale[b] * r) for (error2, _, b), r in zip(measured, raised)]
        tried.append((bands, kl, total(kl)))
    worth = [1.0 if power == 1 else 1.001 for power in POWERS]  # another exponent than 1 should save something
    best = torch.stack([w * sums for w, (*_, sums) in zip(worth, tried)]).argmin(0)
    best[gain == 0] = POWERS.index(1.0)  # of which this step sends nothing; a longer one may
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


def cumulative(costs: np.ndarray, leaning: np.ndarray) -> tuple[tuple[int, ...], ...]:
    """TILTS cumulative tables in units of 2^-UNIT bits/dim: costs leaned by -2 ... 1.5 standard deviations."""
    leaned = [costs * np.exp(leaning * (tilt - MEAN.tilt) / 2) for tilt in range(TILTS)]
    return tuple((0, *(int(v) for v in np.rint(np.cumsum(c) * 2.0**UNIT))) for c in leaned)


def merged(costs: np.ndarray, levels, dims: int, min_bits: int) -> list[float]:
    """Those of the levels (the first infinite) that give steps of at least ``min_bits`` at this size."""
    table = (0, *(int(v) for v in np.cumsum(costs.mean(0)) * 2.0**UNIT))
    return [round(float(g), 6) for g in Plan(dims, tuple(levels), (table,) * TILTS, min_bits).gammas]


def rehearsed(model: DDPM, tables: CodingTables, batches, *, grey: bool, quiet: bool) -> np.ndarray:
    """Bits/dim that each step of a coded chain asks for if it gets ``surplus`` times its KL, (pictures, steps)."""
    costs = []
    for batch in tqdm(batches, disable=True if quiet else None, desc="rehearse"):
        dims, n = batch[0].numel() // (COLOURS if grey else 1), len(tables.gammas)
        coded = tables.coded((batch.shape[2], batch.shape[3]), grey)
        plan = Plan(dims, tables.gammas, (tuple(range(n)),) * TILTS, min_bits=0, coded=coded)
        spending = [Oracle(plan, tables.surplus) for _ in batch]
        setting = Setting(model, tables, plan, tuple(batch.shape[2:]), grey)
        streams = progressive.encode(setting, as_grey(batch) if grey else batch, spending)
        costs += [np.array(s.kl) * tables.surplus / dims for s in streams]
    return np.stack(costs)


def coding_tables(
    model: DDPM,
    batches,
    levels: Sequence[float] | np.ndarray,
    *,
    surplus,
    memory,
    min_bits,
    block=8,
    scales=(1,),
    thin=None,
    quiet=False,
) -> CodingTables:
    """surplus: bits sent per bit of KL by a profile that fits; block: of the cosine transform, if the schedule has none
    of its own; scales: reductions at which the network may work at noisy levels.

    First the levels are thinned until steps have ``thin`` bits (by default ``min_bits``, which is for smaller pictures
    later on) at the size of these pictures, by the KL of the ideal channel; that KL at the levels kept is the
    ``reference`` that a picture's probe is compared with. Then coded chains say what the steps really ask for, a little
    more, since a message never delivers quite all.
    """
    batches = list(batches)
    some = batches[: max(1, len(batches) // 3)]
    values = torch.cat([to_unit(b).transpose(0, 1).flatten(1) for b in batches], 1)
    mean = tuple(round(float(v), 3) for v in values.mean(1))
    variance = round(float(values.var(1).mean()), 3)
    noise = model.schedule if isinstance(model.schedule, Bands) else EVEN
    block = block if noise.even else noise.block
    tables = CodingTables(mean, variance, block, surplus, memory, min_bits, tuple(map(float, levels)), noise=noise)
    rough = step_costs(model, tables, some, scales=scales, quiet=quiet)
    kept = merged(rough.kl, tables.gammas, batches[0][0].numel(), min_bits if thin is None else thin)
    tables = replace(tables, levels=tuple(kept[1:]))
    colour = step_costs(model, tables, batches, scales=scales, quiet=quiet)
    grey = step_costs(model, tables, batches, grey=True, scales=[(s,) for s in colour.scales], quiet=quiet)
    # The last level is where no step begins; its picture is made like that of the level before.
    tables = replace(tables, scales=(*colour.scales, colour.scales[-1]), colour=bands_of(colour), grey=bands_of(grey))
    leaning = lean(colour.kl)
    found = {}
    for name, costs in (("colour", colour), ("grey", grey)):
        reference = tuple(float(f"{v:.5g}") for v in costs.kl.mean(0))
        asked = rehearsed(model, tables, some, grey=name == "grey", quiet=quiet).mean(0)
        found[name] = replace(getattr(tables, name), reference=reference, bits=cumulative(asked, leaning))
    return with_context(model, batches, replace(tables, **found))


def bands_of(costs: Costs) -> Tables:
    """Variances and exponents of the bands, the last level's like those of the one before."""
    bands, powers = (tuple(map(tuple, [*rows, rows[-1]])) for rows in (costs.bands, costs.powers))
    return Tables(bands=bands, powers=powers)


def with_context(model: DDPM, batches, tables: CodingTables) -> CodingTables:
    """The same with what lossless files and archives need besides, measured on pictures (B, 3, H, W) uint8."""
    colour, grey = (
        replace(tables.of(g), context=context.fit(model, batches, tables.levels[-1], g)) for g in (False, True)
    )
    return replace(tables, colour=colour, grey=grey)
