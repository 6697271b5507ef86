"""How far an exact network is from the one in floats that it was made of, by noise level.

    python -m bench.exactness DATA [--tile 32] [--images 96] [--crop 128] [--levels 7] [--model photo] -o exactness.json

Both predict x from the same z, at levels of the model's coding tables and in the resolution that these give it there.
Figures are in shares of the float network's squared error, so of bits: what the exact one's error is on top of it, and
the squared distance of the two, over all pictures and of the picture where it is largest.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import click
import numpy as np
import torch
from tqdm import tqdm

from bench.harness.command import COUNT, command
from bench.harness.pick import draw
from bench.reporting.output import finish, output_options
from bench.reporting.run import Run
from bench.reporting.table import Table
from codec import Codec
from codec.diagrams import Axis, Diagram, Series
from codec.lossy.basis import Cosines
from codec.lossy.denoise import coarse, seen_at
from codec.lossy.tables import CodingTables
from ddpm.diffusion.likelihood import to_unit
from ddpm.diffusion.schedule import smaller
from ddpm.images.batches import batches
from ddpm.models.model import DDPM

PIXELS = 1 << 17  # of a batch


def levels(tables: CodingTables, count: int) -> list[tuple[float, int]]:
    """So many gammas of the tables, evenly apart in them, each with the scale that the network sees there."""
    finite = [(gamma, scale) for gamma, scale in zip(tables.gammas, tables.scales) if math.isfinite(gamma)]
    chosen = np.unique(np.linspace(0, len(finite) - 1, min(count, len(finite))).round().astype(int))
    return [finite[i] for i in chosen]


@torch.inference_mode()
def squares(model: DDPM, tables: CodingTables, level: tuple[float, int], x: torch.Tensor, seed: int) -> np.ndarray:
    """x (B, 3, H, W) -> (B, 3): mean squares of float - x, exact - x and exact - float, of the predictions."""
    (gamma, scale), generator = level, torch.Generator().manual_seed(seed)
    basis = Cosines(tables, (x.shape[2], x.shape[3]), grey=False)
    z = basis.seen(basis.step(gamma, gamma - 1), x, torch.randn(x.shape, generator=generator))
    exact, found = model.exact, []
    try:
        for network in (None, exact):
            model.exact = network
            found.append(seen_at(model, scale, gamma, z)[0].double())
    finally:
        model.exact = exact
    small = coarse(x, gamma, scale)[0].double() / (smaller(gamma, scale)[1] if scale > 1 else 1)
    pairs = (found[0], small), (found[1], small), (found[1], found[0])
    return torch.stack([(a - b).square().mean((1, 2, 3)) for a, b in pairs], 1).numpy()


def measure(model: DDPM, tables: CodingTables, pictures: list[np.ndarray], count: int) -> Iterator[dict]:
    """A row for each level."""
    for gamma, scale in tqdm(levels(tables, count), desc="levels", disable=None):
        parts = [
            squares(model, tables, (gamma, scale), to_unit(batch.x), seed)
            for seed, batch in enumerate(batches(pictures, PIXELS))
        ]
        floats, exact, apart = np.concatenate(parts).T
        yield {
            "gamma": gamma,
            "scale": scale,
            "images": len(floats),
            "added": float(exact.sum() / floats.sum() - 1),
            "apart": float(apart.sum() / floats.sum()),
            "farthest": float((apart / floats).max()),
        }


def present(result: dict) -> tuple[list[Diagram], list[Table]]:
    """Over gamma, and as a table with the means over its levels."""
    rows = result["rows"]
    gammas = [row["gamma"] for row in rows]
    names = {"added": "error added", "apart": "squared distance", "farthest": "squared distance, worst picture"}
    series = [Series(name, gammas, [100 * row[key] for row in rows]) for key, name in names.items()]
    axes = Axis("gamma (log noise-to-signal ratio)"), Axis("% of the float network's squared error")
    means = {"gamma": "all", "scale": ""} | {key: np.mean([row[key] for row in rows]) for key in ("added", "apart")}
    means["farthest"] = max(row["farthest"] for row in rows)
    columns = {"gamma": "{gamma}", "scale": "{scale}", names["added"]: "{added:+.3%}"}
    columns |= {names["apart"]: "{apart:.3%}", names["farthest"]: "{farthest:.3%}"}
    table = Table.of("exactness", [row | {"gamma": f"{row['gamma']:.2f}"} for row in rows] + [means], columns)
    return [Diagram("exact network beside floats", *axes, series)], [table]


@command()
@click.argument("data")
@click.option("--tile", type=COUNT)
@click.option("--images", type=COUNT, default=96, show_default=True)
@click.option("--crop", type=COUNT, default=128, show_default=True)
@click.option("--levels", "count", type=COUNT, default=7, show_default=True)
@click.option("--model", default="photo", show_default=True)
@output_options
def main(data, tile, images, crop, count, model, output, plot):
    """Compare an exact network with the one in floats, on crops of pictures drawn at random."""
    pictures, codec = draw(data, tile, images, crop), Codec(model, "cpu")
    run = Run("exactness", codec.model, data=data, crop=crop)
    finish(run.result(list(measure(codec.model, codec.tables, pictures, count))), output, plot)


if __name__ == "__main__":
    main()
