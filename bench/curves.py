"""Rate-distortion curves on photographs: real files of ours and of classical codecs, BD-rates, and published curves.

    python -m bench.curves FOLDER [--until -4.8] [--flow] [--images 24] [--model photo] -o curves.json -p curves.png

One file of ours for each picture, down to the noise level gamma = --until, and cut after every whole step on the way; a
point is one number of steps for all pictures, so an equal noise level. Of the others files over a ladder of qualities.
PSNR (RGB) and MS-SSIM (luma) are means over pictures, as in published curves, see literature.py.
BD-rates are over the PSNR that ours and the other have in common. --flow: every sixth point also with ``recon`` flow.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np
from tqdm import tqdm

from codec import Codec, Target
from codec.api import psnr
from codec.diagrams import OURS, Axis, Diagram, Series
from codec.pictures import read_picture

from . import literature
from .bd import bd_rate, in_common, log_rate
from .judge import judge, judge_file
from .peers import PEERS, modern
from .results import Run, Table, output_options, save, show

KODAK = {f"kodim{i:02}.png" for i in range(1, 25)}  # what published curves are means over
FLOW = OURS + ", flow"
LEAST = 0.015  # bits/dim of the first point
AT = (28, 30, 32, 34, 36, 38, 40, 42, 44)  # dB
QUALITIES = (5, 10, 20, 30, 40, 50, 60, 70, 80, 88, 94)


def ours(codec: Codec, picture: np.ndarray, until: float, flow: bool) -> Iterator[dict]:
    """Rows of one file cut after each step; ``setting`` is the gamma that it reaches."""
    plan = codec.plan(*picture.shape[:2], picture.ndim == 2)
    steps = next((k for k, gamma in enumerate(plan.gammas) if gamma <= until), plan.steps)
    [coded] = codec.encode([picture], Target(steps=steps))
    for k, stage in enumerate(codec.stages(coded.data)):
        if 8 * stage.bytes > LEAST * picture.size:
            setting = round(plan.gammas[k], 2)
            yield {"codec": OURS, "setting": setting} | judge(picture, stage.array, stage.bytes)
            if flow and (steps - k) % 6 == 0:
                array = codec.decode([coded.data[: stage.bytes]], recon="flow")[0].array
                yield {"codec": FLOW, "setting": setting} | judge(picture, array, stage.bytes)


def measure(file: Path, codec: Codec, until: float, flow: bool, peers: dict) -> list[dict]:
    """One row per codec and setting for a picture."""
    picture = read_picture(file)
    rows = list(ours(codec, picture, until, flow))
    for name, encoder in peers.items():
        for quality in QUALITIES:
            rows.append({"codec": name, "setting": quality} | judge_file(picture, encoder(picture, quality)))
    return [{"file": file.name, "psnr": psnr(row["mse"])} | row for row in rows]


def curves(rows: list[dict]) -> dict[str, list[dict]]:
    """codec -> points by rising rate: means over the pictures, at each setting that all of them have."""
    n_files, found = len({r["file"] for r in rows}), {}
    for name in dict.fromkeys(r["codec"] for r in rows):
        settings = {r["setting"] for r in rows if r["codec"] == name}
        for setting in sorted(settings, reverse=name.startswith(OURS)):
            part = [r for r in rows if (r["codec"], r["setting"]) == (name, setting)]
            if len(part) == n_files:
                point = {k: float(np.mean([r[k] for r in part])) for k in ("bits_per_dim", "psnr", "ms_ssim")}
                found.setdefault(name, []).append({"setting": setting} | point)
    return found


def published(files: set[str]) -> dict[str, list[dict]]:
    """The same of what others published; nothing for other pictures."""
    if files != KODAK:
        return {}
    return {name: curve.points for name, curve in literature.published("kodak").items()}


def advantages(found: dict[str, list[dict]]) -> dict[str, float]:
    """BD-rate of ours against each other curve that has points and PSNR in common with it, percent."""
    pairs = {name: [(p["bits_per_dim"], p["psnr"]) for p in points] for name, points in found.items()}
    out = {}
    for name in pairs.keys() - {OURS}:
        with contextlib.suppress(ValueError):
            out[name] = bd_rate(pairs[OURS], pairs[name])
    return {name: out[name] for name in pairs if name in out}


def present(result: dict) -> tuple[list[Diagram], list[Table]]:
    """PSNR and MS-SSIM over the rate; the points, and bits at equal PSNR."""
    files = {r["file"] for r in result["rows"]}
    found, others = curves(result["rows"]), published(files)
    head = ["codec", "setting", "bits/dim", "PSNR, dB", "MS-SSIM"]
    every = Table("points", head, [])
    for name, points in found.items():
        for p in points:
            cells = [f"{p['bits_per_dim']:.4f}", f"{p['psnr']:.2f}", f"{p['ms_ssim']:.4f}"]
            every.rows.append([name, f"{p['setting']:g}", *cells])
    return diagrams(found, others, len(files)), [every, comparison(found, others), *reconstructions(found)]


def reconstructions(found: dict) -> list[Table]:
    """What ``mean`` and ``flow`` make of the same files."""
    plain = {p["setting"]: p for p in found.get(OURS, ())}
    lines = []
    for flow in found.get(FLOW, ()):
        mean = plain[flow["setting"]]
        values = [f"{p[key]:{form}}" for key, form in (("psnr", ".2f"), ("ms_ssim", ".4f")) for p in (mean, flow)]
        lines.append([f"{flow['bits_per_dim']:.4f}", *values])
    head = ["bits/dim", "PSNR, mean", "PSNR, flow", "MS-SSIM, mean", "MS-SSIM, flow"]
    return [Table("mean and flow", head, lines)] if lines else []


def comparison(found: dict, others: dict) -> Table:
    """Bits/dim at some PSNR, and how many fewer bits ours take (BD-rate) over the PSNR in common."""
    both = found | others
    better = advantages(both)
    rates = {name: log_rate([(p["bits_per_dim"], p["psnr"]) for p in both[name]]) for name in better}
    if OURS in found and len(found[OURS]) > 1:
        rates = {OURS: log_rate([(p["bits_per_dim"], p["psnr"]) for p in found[OURS]])} | rates
    at = [p for p in AT if OURS in rates and rates[OURS].x[0] <= p <= rates[OURS].x[-1]]
    table = Table("comparison", ["", *(f"{p} dB" for p in at), "PSNR in common", "bits of ours against it"], [])
    for name, curve in rates.items():
        values = [float(curve(p)) for p in at]
        common = "" if name == OURS else "{:.1f} to {:.1f} dB".format(*in_common(curve, rates[OURS]))
        gain = "" if name == OURS else f"{better[name]:+.1f}%"
        cells = ["" if math.isnan(v) else f"{math.exp(v):.3f}" for v in values]
        table.rows.append([name + ", published" * (name in others), *cells, common, gain])
    return table


def diagrams(found: dict, others: dict, files: int) -> list[Diagram]:
    """MS-SSIM in decibels, -10 log10(1 - v)."""
    rate = Axis("bits/dim (whole files)", "log", (0.015, 2))
    made = []
    for key, label, span in (("psnr", "PSNR, dB", (20, 48)), ("ms_ssim", "MS-SSIM, dB", (5, 30))):
        series = []
        for name, points in found.items():
            y = [p[key] if key == "psnr" else -10 * math.log10(max(1 - p[key], 1e-6)) for p in points]
            series.append(Series(name, [p["bits_per_dim"] for p in points], y, "files"))
        if key == "psnr":
            for name, points in others.items():
                x, y = ([p[k] for p in points] for k in ("bits_per_dim", "psnr"))
                series.append(Series(f"{name}, published", x, y, "published"))
        made.append(Diagram(f"{files} photographs", rate, Axis(label, range=span), series))
    return made


@click.command()
@click.argument("source", type=Path)
@click.option("--until", default=-4.8, show_default=True, help="Gamma (-log SNR) of the last point.")
@click.option("--flow", is_flag=True, help="Some points with recon flow as well.")
@click.option("--images", type=int, help="Only the first so many pictures.")
@click.option("--skip", default=0, help="Begin after so many pictures.")
@click.option("--model", default="photo", show_default=True)
@click.option("--device", default="auto", show_default=True)
@output_options
def main(source, until, flow, images, skip, model, device, output, plot):
    """Measure a folder of photographs. Results of some pictures here and of others there: see bench.results."""
    codec, peers = Codec(model, device), PEERS | modern()
    files = sorted(p for p in source.iterdir() if p.suffix.lower() == ".png")[skip:][:images]
    run, rows = Run("curves", codec.model, source=source, until=until, flow=flow), []
    for file in tqdm(files, desc="pictures", disable=None):
        rows += measure(file, codec, until, flow, peers)
        result = run.result(rows)
        save(result, output)
    if not rows:
        raise click.ClickException(f"{source}: no PNG files")
    save(result, output, plot)
    show(result)


if __name__ == "__main__":
    main()
