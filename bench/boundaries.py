"""What is seen where the network changes its resolution: the picture before and after, and their difference.

    python -m bench.boundaries PICTURE [--rate 0.3] [--model photo] -o boundaries.json -p boundaries.png

The chain of one file is followed. At each step from which the network works at a finer scale, the same z is shown at
the scale before and at the new one; how much the picture changes in the step before that is given for comparison.
``seam``: the mean difference between neighbouring pixels of the change, where a cell of the coarser scale ends, over
what it is where only a cell of the finer one does; 1 if no border of the coarser cells is to be seen.
"""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
import torch
from matplotlib.figure import Figure

from bench.channels.cases import followed
from bench.harness.command import POSITIVE, command, drawable, writable
from bench.metrics.judge import mse
from bench.reporting.output import finish, wrote
from bench.reporting.run import Run
from bench.reporting.table import Table
from codec import Codec, Target
from codec.diagrams import Diagram
from codec.images.pictures import read_picture
from codec.lossy.denoise import enlarge, seen_at
from codec.lossy.reconstruct import shown

AMPLIFIED = 8


def seam(change: np.ndarray, coarse: int, fine: int) -> float:
    """Of a map (H, W, 3), larger than the coarse scale."""
    ratios = []
    for axis in (0, 1):
        steps = np.abs(np.diff(change.astype(float), axis=axis)).mean((1 - axis, 2))
        at = np.arange(1, len(steps) + 1)
        elsewhere = steps[(at % fine == 0) & (at % coarse > 0)].mean()
        ratios.append(steps[at % coarse == 0].mean() / max(elsewhere, 1e-9))
    return float(np.mean(ratios))


@torch.inference_mode()
def boundaries(codec: Codec, data: bytes) -> list[dict]:
    """One row for each change of scale along a file, with the pictures ``before`` and ``after`` (H, W, 3) uint8."""
    (chain, predictions), rows, last = followed(codec, data), [], None
    for p in predictions:
        setting, scale = chain.setting, codec.tables.scales[chain.level]
        if last and scale < last["scale"]:
            x_hat = seen_at(codec.model, last["scale"], chain.gamma, chain.seen())[0]
            x_hat = enlarge(x_hat, last["scale"], setting.size)
            before, after = shown(chain, x_hat)[0], shown(chain, p.x_hat)[0]
            change = after.astype(float) - before
            rows.append(
                {
                    "gamma": chain.gamma,
                    "from": last["scale"],
                    "to": scale,
                    "rmse": mse(before, after) ** 0.5,
                    "rmse_of_the_step_before": mse(before, last["picture"]) ** 0.5,
                    "seam": seam(change, last["scale"], scale),
                    "before": before,
                    "after": after,
                }
            )
        last = {"scale": scale, "picture": shown(chain, p.x_hat)[0]}
    return rows


def draw(rows: list[dict], path: Path) -> None:
    """A row for each change: before, after, the difference amplified."""
    aspect = rows[0]["before"].shape[0] / rows[0]["before"].shape[1]
    figure = Figure(figsize=(13, 13 / 3 * aspect * len(rows) + 0.4), layout="constrained")
    for axis, r in zip(figure.subplots(len(rows), 3, squeeze=False), rows):
        difference = np.clip(128 + AMPLIFIED * (r["after"].astype(int) - r["before"]), 0, 255).astype(np.uint8)
        for a, array, title in zip(
            axis,
            (r["before"], r["after"], difference),
            (
                f"gamma {r['gamma']:.2f}, network at 1/{r['from']}",
                f"at 1/{r['to']}" if r["to"] > 1 else "at full resolution",
                f"difference x {AMPLIFIED}: RMSE {r['rmse']:.2f}, seam {r['seam']:.2f}",
            ),
        ):
            a.imshow(array)
            a.set_title(title, fontsize=10)
            a.axis("off")
    figure.savefig(path, dpi=90)


def present(result: dict) -> tuple[list[Diagram], list[Table]]:
    """One table; what is to be seen are pictures, which ``draw`` makes."""
    columns = {
        "gamma": "{gamma:.2f}",
        "size": "1/{from} to 1/{to}",
        "RMSE of the change": "{rmse:.2f}",
        "of the step before": "{rmse_of_the_step_before:.2f}",
        "seam": "{seam:.3f}",
    }
    return [], [Table.of("boundaries", result["rows"], columns)]


@command()
@click.argument("picture", type=Path)
@click.option("--rate", type=POSITIVE, default=0.3, show_default=True, help="Bits/dim.")
@click.option("--model", default="photo", show_default=True)
@click.option("--device", default="auto", show_default=True)
@click.option("-o", "--output", type=Path, callback=writable, help="JSON.")
@click.option("-p", "--plot", type=Path, callback=drawable, help="The pictures.")
def main(picture, rate, model, device, output, plot):
    """Follow a file of PICTURE."""
    array, codec = read_picture(picture), Codec(model, device)
    run = Run("boundaries", codec.model, picture=picture, rate=rate)
    [file] = codec.encode([array], Target(bits_per_dim=rate))
    rows = boundaries(codec, file.data)
    figures = [{k: v for k, v in r.items() if k not in ("before", "after")} for r in rows]
    finish(run.result(figures), output)
    if plot and rows:
        draw(rows, plot)
        wrote(plot)


if __name__ == "__main__":
    main()
