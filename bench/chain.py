"""What the code stream costs over theory: the whole chain against the ideal Gaussian channel, payload only.

    python -m bench.chain DATA [--tile 32] [--images 48] [--model cifar10] [--until GAMMA] -o chain.json

Three curves of bits/dim against RMSE over the same pictures: the trellis (bits sent); the ideal channel at the same
steps (sum of KL along its own chain); the ideal channel at 250 steps. Overheads are ratios of bits at equal RMSE,
interpolated in the logarithm of both.
"""

from __future__ import annotations

import math
from dataclasses import replace

import click
import numpy as np
import torch
from tqdm import tqdm

from bench.harness.command import COUNT, command
from bench.harness.pick import draw
from bench.reporting.output import finish, output_options
from bench.reporting.run import Run
from bench.reporting.table import Table
from codec import CodecError
from codec.api import Codec
from codec.channel.simulation import CHANNELS
from codec.diagrams import OURS, Axis, Diagram, Series
from codec.lossy import progressive
from codec.lossy.probe import probe
from codec.lossy.ratecontrol import spending_for
from codec.lossy.setting import Setting
from codec.lossy.tables import CodingTables, Tables
from ddpm.images.batches import stacked

RATES = (0.1, 0.2, 0.4, 0.8, 1.2)


def pick(source: str, tile: int | None, images: int, crop: int) -> torch.Tensor:
    """(images, 3, crop, crop) uint8: the middle of pictures drawn at random."""
    chosen = [p for p in draw(source, tile, None, crop) if p.shape[:2] == (crop, crop)][:images]
    if not chosen:
        raise CodecError(f"{source}: no picture has sides of {crop} pixels")
    return stacked(chosen)


def curve(setting: Setting, x: torch.Tensor, channel: str, batch: int) -> dict:
    """Mean bits/dim sent before each level and the RMSE of `mean` there, both over all of x."""
    plan, rate, mse, ideal = setting.plan, [], [], []
    for part in tqdm(x.split(batch), f"{channel}, {plan.steps} steps", disable=None):
        part = part.to(setting.model.device)
        spending = [spending_for(plan, cost, math.inf, setting.tables.surplus) for cost in probe(setting, part)]
        streams = progressive.encode(setting, part, spending, channel=CHANNELS[channel])
        for stream in streams:
            kl = np.concatenate([[0], np.cumsum(stream.kl)])
            ideal.append(kl)
            rate.append(kl if channel == "ideal" else np.cumsum([0, *map(len, stream.messages)]))
            mse.append(stream.mse)
    mean = lambda a: np.mean(np.array(a, float), 0)  # noqa: E731
    return {
        "bits_per_dim": (mean(rate) / plan.dims).tolist(),
        "kl_bits_per_dim": (mean(ideal) / plan.dims).tolist(),
        "rmse": np.sqrt(mean(mse)).tolist(),
        "gammas": list(plan.gammas),
    }


def read_off(c: dict, asked: str, given: str, value: float) -> float:
    """One of bits/dim and RMSE where a curve has so much of the other, interpolated in the logarithm of both."""
    x, y = (np.log([v for v, rate in zip(c[key], c["bits_per_dim"]) if rate > 0]) for key in (given, asked))
    rising = slice(None, None, -1 if given == "rmse" else 1)
    return float(np.exp(np.interp(np.log(value), x[rising], y[rising])))


def finer(tables: CodingTables, steps: int) -> CodingTables:
    """Tables over the same range in so many even steps; for the ideal channel only."""
    old, of = np.array(tables.levels), tables.colour
    levels = np.linspace(old[0], old[-1], steps + 1)
    between = lambda values: np.interp(-levels, -old, values)  # noqa: E731
    nearest = np.abs(levels[:, None] - old).argmin(1)
    bands, powers = np.log(of.bands), np.array(of.powers)
    fine = Tables(
        bits=tuple((0, *between(row[1:]).astype(int).tolist()) for row in of.bits),
        reference=(of.reference[0], *np.diff(between([0, *np.cumsum(of.reference[1:])])).tolist()),
        bands=rows(np.exp([bands[0], *np.stack([between(b[1:]) for b in bands.T], 1)])),
        powers=rows([powers[0], *np.stack([between(p[1:]) for p in powers.T], 1)]),
    )
    scales = (1, *(tables.scales[1 + i] for i in nearest))
    return replace(tables, levels=tuple(levels.tolist()), min_bits=-1, scales=scales, colour=fine)


def rows(values) -> tuple[tuple[float, ...], ...]:
    return tuple(map(tuple, np.asarray(values).tolist()))


def cut(tables: CodingTables, gamma: float) -> CodingTables:
    """Tables that end with the first level at or below gamma."""
    n, of = min(1 + sum(level > gamma for level in tables.levels), len(tables.levels)), tables.colour
    short = Tables(
        tuple(row[: n + 1] for row in of.bits), of.reference[:n], of.bands[: n + 1], of.powers[: n + 1], of.context
    )
    return replace(tables, levels=tables.levels[:n], scales=tables.scales[: n + 1], colour=short)


def measure(codec: Codec, x: torch.Tensor, fine: int, batch: int, until: float = -math.inf) -> list[dict]:
    """Rows of the curves, and of the overheads at RATES as far as the chain reaches."""
    short, size = cut(codec.tables, until), tuple(x.shape[2:])
    setting = Setting.of(codec.model, short, size, seed=1)
    curves = {channel: curve(setting, x, channel, batch) for channel in ("trellis", "ideal")}
    many = Setting.of(codec.model, finer(short, fine), size, seed=1)
    curves[f"ideal {fine} steps"], plan = curve(many, x, "ideal", batch), setting.plan
    out, about = [], {"images": len(x), "size": list(x.shape[2:]), "steps": plan.steps, "fine": fine}
    for rate in RATES:
        if rate > curves["trellis"]["bits_per_dim"][-1]:
            break
        rmse = read_off(curves["trellis"], "rmse", "bits_per_dim", rate)
        same, limit = (
            read_off(curves[name], "bits_per_dim", "rmse", rmse) for name in ("ideal", f"ideal {fine} steps")
        )
        over = {"bits_per_dim": rate, "rmse": rmse, "over_same_steps": rate / same - 1, "over_fine": rate / limit - 1}
        out.append(about | {"what": "overhead"} | over)
    return out + [about | {"what": "curve", "name": name} | points for name, points in curves.items()]


def present(result: dict) -> tuple[list[Diagram], list[Table]]:
    """The curves of bits/dim and RMSE, and what the code costs over the ideal ones at equal RMSE."""
    curves = [r for r in result["rows"] if r["what"] == "curve"]
    over = [r for r in result["rows"] if r["what"] == "overhead"]
    series = []
    for c in curves:
        kept = [(b, e) for b, e in zip(c["bits_per_dim"], c["rmse"]) if b > 0]
        how = (f"{OURS}, trellis", "line") if c["name"] == "trellis" else (c["name"], "ideal")
        series.append(Series(how[0], *map(list, zip(*kept)), how[1]))
    columns = {
        "bits/dim": "{bits_per_dim:g}",
        "RMSE": "{rmse:.2f}",
        "over the ideal, same steps": "{over_same_steps:.1%}",
        f"over the ideal, {result['rows'][0]['fine']} steps": "{over_fine:.1%}",
    }
    title = f"the chain beside an ideal channel, {curves[0]['images']} pictures"
    diagram = Diagram(title, Axis("bits/dim, payload", "log"), Axis("RMSE", "log"), series)
    return [diagram], [Table.of("overhead", over, columns)] if over else []


@command()
@click.argument("data")
@click.option("--tile", type=COUNT)
@click.option("--images", type=COUNT, default=48, show_default=True)
@click.option("--crop", type=COUNT, default=32, show_default=True)
@click.option("--model", default="cifar10", show_default=True)
@click.option("--fine", type=click.IntRange(2), default=250, show_default=True, help="Steps of the finer ideal chain.")
@click.option("--batch", type=COUNT, default=48, show_default=True)
@click.option("--until", default=-math.inf, help="Cut the chain where gamma (-log SNR) is below; saves time.")
@click.option("--device", default="auto", show_default=True)
@output_options
def main(data, tile, images, crop, model, fine, batch, until, device, output, plot):
    """Measure the overhead of the coded chain over the ideal channel."""
    x, codec = pick(data, tile, images, crop), Codec(model, device)
    run = Run("chain", codec.model, data=data, tile=tile, crop=crop, until=until if math.isfinite(until) else None)
    finish(run.result(measure(codec, x, fine, batch, until)), output, plot)


if __name__ == "__main__":
    main()
