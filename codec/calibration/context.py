"""The weights by which known pixels tell of others (codec/lossless/context.py), measured on pictures."""

from __future__ import annotations

from itertools import product

import numpy as np
import torch

from codec.lossless.context import UNIT, WEIGHT, Sight
from codec.lossless.entropy import integers
from codec.lossless.likelihood import pixel_nats, pixels
from codec.lossy.tables import Context, Group, Place
from ddpm.diffusion.gaussian import Step
from ddpm.diffusion.likelihood import to_unit
from ddpm.diffusion.reverse import Reverse
from ddpm.models.model import DDPM

CLASSES = 8  # of pixels, by their deviation
NARROWER = range(-16, 5)  # eighths of an octave that are tried
RIDGE = 1.0  # pixels without error that each class is given besides


@torch.inference_mode()
def fit(model: DDPM, batches, gamma: float, grey: bool, seed: int = 0) -> Context:
    """What a model's tables have of the neighbours of a pixel, from pictures (B, 3, H, W) uint8, z_0 at level gamma."""
    generator, last = torch.Generator().manual_seed(seed), Step(gamma + 1, gamma)
    seen, reverse = [], Reverse(model)
    for batch in batches:
        x = to_unit(batch)
        z = last.alpha_s * x + last.sigma_s * torch.randn(x.shape, generator=generator)
        beliefs = pixels(reverse, last, reverse.process.coordinates(z.to(model.device)), grey)
        mean, log_std = (v.double().cpu().numpy() for v in beliefs)
        values = batch[:, : mean.shape[1]].numpy()
        seen.append((values, *(v.reshape(values.shape) for v in integers(mean, log_std))))
    return context_of(seen)


def context_of(seen: list[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> Context:
    """The context that shortens pixels most, given values, means and scales of batches, (B, C, H, W) integers.

    Weights of each group and class are least squares in standard deviations; then the scales are narrowed by what
    gives the shortest code.
    """
    quantiles = np.linspace(0, 1, CLASSES + 1)[1:-1]
    edges = np.unique(np.quantile(np.concatenate([s.ravel() for *_, s in seen]), quantiles).astype(int))
    colours = (1, 0, 2) if seen[0][0].shape[1] == 3 else (0,)
    order = list(product(colours, (0, 1)))
    context = Context(edges, {})
    for n, group in enumerate(order):
        places = [p for p in product(colours, (-1, 0, 1), (-1, 0, 1)) if found_in(p, group) in order[:n]]
        context.groups[group] = {p: np.zeros(len(edges) + 1, int) for p in places}, np.zeros(len(edges) + 1, int)
    sights = [Sight(context, m, s, x.shape) for x, m, s in seen]
    for group in order:
        weights, narrower = context.groups[group]
        targets, near, classes = [], [], []
        for (x, _, scales), sight in zip(seen, sights):
            sight.update(group, sight.members(x, group))
            targets.append(at(sight, (group[0], 0, 0), group))
            near.append(np.stack([at(sight, p, group) for p in weights], 1) if weights else targets[-1][:, None][:, :0])
            classes.append(np.searchsorted(edges, sight.members(scales, group).ravel(), "right"))
        y, X, k = (np.concatenate(v) for v in (targets, near, classes))
        for c in range(len(edges) + 1):
            own = k == c
            square = X[own].T @ X[own] + RIDGE * np.eye(X.shape[1])
            found = np.linalg.solve(square, X[own].T @ y[own])
            for weight, value in zip(weights.values(), found):
                weight[c] = round(float(value) * 2**WEIGHT)
        coded = [(sight.members(x, group), *sight.predict(group)) for (x, *_), sight in zip(seen, sights)]
        x, means, scales = (np.concatenate([v.ravel() for v in columns]) for columns in zip(*coded))
        nats = np.stack([pixel_nats(x, means, scales + d) for d in NARROWER])
        for c in range(len(edges) + 1):
            narrower[c] = NARROWER[int(nats[:, k == c].sum(1).argmin())]
    return context


def found_in(place: Place, group: Group) -> Group:
    """The group of a neighbour of a pixel in ``group``."""
    colour, below, right = place
    return colour, (group[1] + below + right) % 2


def at(sight: Sight, place: Place, group: Group) -> np.ndarray:
    """The errors of the neighbours at a place, of all pixels of a group, in standard deviations."""
    colour, below, right = place
    H, W = sight.shape[2:]
    near = sight.errors[:, colour, 1 + below : 1 + below + H, 1 + right : 1 + right + W]
    return near[:, sight.odd == group[1]].ravel() / 2.0**UNIT
