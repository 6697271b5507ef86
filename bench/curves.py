"""Rate-distortion curves on photographs: real files of ours and of classical codecs, BD-rates, and published curves.

    python -m bench.curves FOLDER [--until -4.8] [--flow] [--images 24] [--model photo] -o curves.json -p curves.png
    python -m bench.curves FOLDER --ours curves.json -o new.json    # ours as stored, the others measured anew
    python -m bench.curves FOLDER --others curves.json -o new.json    # the others as stored

One file of ours for each picture, down to the noise level gamma = --until, and cut after every whole step on the way; a
point is one number of steps for all pictures, so an equal noise level. Of the others files over a ladder of qualities,
at each of their settings (peers.py); a curve is of the points that no other setting of the codec undercuts, so PSNR and
MS-SSIM may be of different ones. PSNR (RGB) and MS-SSIM (luma) are means over pictures, as in published curves, see
literature.py; pictures too small for MS-SSIM have none. BD-rates are over the PSNR that ours and the other have in
common. --flow: every sixth point also with ``recon`` flow.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path

import click
import numpy as np
from tqdm import tqdm

from bench.baselines import literature
from bench.baselines.peers import contenders, titled, versions
from bench.harness.command import COUNT, FROM_ZERO, command
from bench.metrics.bd import bd_rate, in_common, log_rate, lower_envelope
from bench.metrics.judge import judge, judge_file
from bench.reporting.output import finish, finish_parts, output_options
from bench.reporting.run import Run
from bench.reporting.table import Table
from codec import Codec, CodecError, Target
from codec.api import psnr
from codec.diagrams import OURS, Axis, Diagram, Series, read_result
from codec.images.pictures import read_picture
from codec.target import EFFORTS, stride_of
from ddpm.groups import grouped

KODAK = {f"kodim{i:02}.png" for i in range(1, 25)}  # what published curves are means over
FLOW = OURS + ", flow"
LEAST = 0.015  # bits/dim of the first point
AT = (28, 30, 32, 34, 36, 38, 40, 42, 44)  # dB
RANGES = ((29, 32), (32, 35), (35, 38), (38, 41), (41, 44))  # dB
PART = 1.0  # dB of a range that two curves have in common, at least
QUALITIES = (5, 10, 20, 30, 40, 50, 60, 70, 80, 88, 94)


def ours(codec: Codec, picture: np.ndarray, until: float, *, flow: bool, effort: int) -> Iterator[dict]:
    """Rows of one file cut after each step; ``setting`` is the gamma that it reaches."""
    plan = codec.plan(*picture.shape[:2], picture.ndim == 2, stride_of(effort))
    steps = next((k for k, gamma in enumerate(plan.gammas) if gamma <= until), plan.steps)
    [coded] = codec.encode([picture], Target(steps=steps), effort=effort)
    for k, stage in enumerate(codec.stages(coded.data)):
        if 8 * stage.bytes > LEAST * picture.size:
            setting = round(plan.gammas[k], 2)
            yield {"codec": OURS, "setting": setting} | judge(picture, stage.array, stage.bytes)
            if flow and (steps - k) % 6 == 0:
                array = codec.decode([coded.data[: stage.bytes]], recon="flow")[0].array
                yield {"codec": FLOW, "setting": setting} | judge(picture, array, stage.bytes)


def others(picture: np.ndarray) -> Iterator[dict]:
    """Rows of each other codec's settings, over a ladder of qualities."""
    for peer in contenders():
        for quality in QUALITIES:
            yield peer.says | {"setting": quality} | judge_file(picture, peer.encode(picture, quality))


def measure(files: list[Path], work: Callable[[np.ndarray], Iterable[dict]]) -> Iterator[list[dict]]:
    """For each file the rows of its picture."""
    for file in tqdm(files, desc="pictures", disable=None):
        yield [{"file": file.name, "psnr": psnr(row["mse"])} | row for row in work(read_picture(file))]


def settings(rows: list[dict]) -> dict[str, list[list[dict]]]:
    """codec -> for each of its settings the points by rising rate: means over the pictures where all have one."""
    n_files, found = len({r["file"] for r in rows}), {}
    for (name, _), group in grouped(rows, lambda r: (r["codec"], r.get("how"))).items():
        points = []
        for setting, part in sorted(grouped(group, lambda r: r["setting"]).items(), reverse=name.startswith(OURS)):
            if len(part) == n_files:
                said = {key: part[0][key] for key in ("how", "best_for") if key in part[0]}
                points.append({"setting": setting} | said | means(part))
        if points:
            found.setdefault(name, []).append(points)
    return found


def means(rows: list[dict]) -> dict:
    """Over pictures; no MS-SSIM unless all have it."""
    known = {key: [r[key] for r in rows] for key in ("bits_per_dim", "psnr", "ms_ssim")}
    return {key: None if None in values else float(np.mean(values)) for key, values in known.items()}


def decibels(point: dict, measure: str) -> float:
    """PSNR, or MS-SSIM as -10 log10(1 - v)."""
    return point["psnr"] if measure == "psnr" else -10 * math.log10(max(1 - point["ms_ssim"], 1e-6))


def curves(rows: list[dict], measure: str = "psnr") -> dict[str, list[dict]]:
    """codec -> its points by rising rate, at its best by a measure: those that no other of its settings undercuts."""
    found = {}
    for name, ways in settings(rows).items():
        fit = [[p for p in w if p[measure] is not None and p.get("best_for", measure) == measure] for w in ways]
        fit = [points for points in fit if points]
        if len(fit) == 1:
            found[name] = fit[0]
        elif fit:
            kept = lower_envelope([[(p["bits_per_dim"], decibels(p, measure)) for p in points] for points in fit])
            found[name] = [fit[i][k] for i, k in kept]
    return found


def published(files: set[str], brief: bool = False) -> dict[str, list[dict]]:
    """The same of what others published, or a brief choice; nothing for other pictures."""
    if files != KODAK:
        return {}
    return {name: curve.points for name, curve in literature.published("kodak").items() if curve.brief or not brief}


def pairs(points: list[dict]) -> list[tuple[float, float]]:
    return [(p["bits_per_dim"], p["psnr"]) for p in points]


def advantages(found: dict[str, list[dict]]) -> dict[str, float]:
    """BD-rate of ours against each other curve that has points and PSNR in common with it, percent."""
    out = {}
    for name in found.keys() - {OURS}:
        with contextlib.suppress(ValueError):
            out[name] = bd_rate(pairs(found.get(OURS, ())), pairs(found[name]))
    return {name: out[name] for name in found if name in out}


def present(result: dict) -> tuple[list[Diagram], list[Table]]:
    """PSNR and MS-SSIM over the rate; the points, and bits at equal PSNR."""
    rows = result["rows"]
    files = {r["file"] for r in rows}
    found, brief = curves(rows), published(files, brief=True)
    head = ["codec", "settings", "quality", "bits/dim", "PSNR, dB", "MS-SSIM"]
    every = Table("points", head, [])
    for name, ways in settings(rows).items():
        for p in (p for points in ways for p in points):
            similar = "" if p["ms_ssim"] is None else f"{p['ms_ssim']:.4f}"
            cells = [f"{p['setting']:g}", f"{p['bits_per_dim']:.4f}", f"{p['psnr']:.2f}", similar]
            every.rows.append([name, p.get("how") or "", *cells])
    tables = [every, comparison(found, brief), *by_range(found, published(files)), *reconstructions(found)]
    return diagrams(found, curves(rows, "ms_ssim"), brief, len(files)), tables


def reconstructions(found: dict) -> list[Table]:
    """What ``mean`` and ``flow`` make of the same files."""
    plain = {p["setting"]: p for p in found.get(OURS, ())}
    lines = []
    for flow in found.get(FLOW, ()):
        pair = (plain[flow["setting"]], flow)
        values = [f"{p['psnr']:.2f}" for p in pair] + ["" if (v := p["ms_ssim"]) is None else f"{v:.4f}" for p in pair]
        lines.append([f"{flow['bits_per_dim']:.4f}", *values])
    head = ["bits/dim", "PSNR, mean", "PSNR, flow", "MS-SSIM, mean", "MS-SSIM, flow"]
    return [Table("mean and flow", head, lines)] if lines else []


def named(name: str, points: list[dict], printed: dict) -> str:
    """With the settings that a codec's points are of, or that they are published."""
    return f"{name}, published" if name in printed else titled(name, (p.get("how") for p in points))


def comparison(found: dict, printed: dict) -> Table:
    """Bits/dim at some PSNR, and how many fewer bits ours take (BD-rate) over the PSNR in common."""
    both = found | printed
    better = advantages(both)
    rates = {name: log_rate(pairs(both[name])) for name in better}
    if OURS in found and len(found[OURS]) > 1:
        rates = {OURS: log_rate(pairs(found[OURS]))} | rates
    at = [p for p in AT if OURS in rates and rates[OURS].x[0] <= p <= rates[OURS].x[-1]]
    table = Table("comparison", ["", *(f"{p} dB" for p in at), "PSNR in common", "bits of ours against it"], [])
    for name, curve in rates.items():
        values = [float(curve(p)) for p in at]
        common = "" if name == OURS else in_words(in_common(curve, rates[OURS]))
        gain = "" if name == OURS else f"{better[name]:+.1f}%"
        cells = ["" if math.isnan(v) else f"{math.exp(v):.3f}" for v in values]
        table.rows.append([named(name, both[name], printed), *cells, common, gain])
    return table


def by_range(found: dict, printed: dict) -> list[Table]:
    """BD-rate of ours against all others, over the PSNR in common and over parts of it."""
    both = found | printed
    heads = [f"{low} to {high} dB" for low, high in RANGES]
    table = Table("by range", ["bits of ours against", "PSNR in common", "in all of it", *heads], [])
    for name, gain in advantages(both).items():
        mine, theirs = (pairs(both[n]) for n in (OURS, name))
        reach, cells = in_common(log_rate(mine), log_rate(theirs)), []
        for low, high in RANGES:
            part = max(low, reach[0]), min(high, reach[1])
            cells.append(f"{bd_rate(mine, theirs, part):+.1f}%" if part[1] - part[0] >= PART else "")
        table.rows.append([named(name, both[name], printed), in_words(reach), f"{gain:+.1f}%", *cells])
    return [table] if table.rows else []


def in_words(reach: tuple[float, float]) -> str:
    return "{:.1f} to {:.1f} dB".format(*reach)


def diagrams(found: dict, similar: dict, printed: dict, files: int) -> list[Diagram]:
    """PSNR and MS-SSIM, each of the points that are best by it."""
    rate = Axis("bits/dim (whole files)", "log", (0.015, 2))
    made = []
    for best, key, label, span in (
        (found, "psnr", "PSNR, dB", (20, 48)),
        (similar, "ms_ssim", "MS-SSIM, dB", (5, 30)),
    ):
        shown = [(name, points, "files") for name, points in best.items()]
        if key == "psnr":
            shown += [(f"{name}, published", points, "published") for name, points in printed.items()]
        series = [
            Series(name, [p["bits_per_dim"] for p in points], [decibels(p, key) for p in points], style)
            for name, points, style in shown
        ]
        if series:
            made.append(Diagram(f"{files} photographs", rate, Axis(label, range=span), series))
    return made


@command()
@click.argument("source", type=Path)
@click.option("--until", default=-4.8, show_default=True, help="Gamma (-log SNR) of the last point.")
@click.option("--effort", type=click.IntRange(1, EFFORTS), default=EFFORTS, help="Of ours.")
@click.option("--flow", is_flag=True, help="Some points with recon flow as well.")
@click.option("--images", type=COUNT, help="Only the first so many pictures.")
@click.option("--skip", type=FROM_ZERO, default=0, help="Begin after so many pictures.")
@click.option("--ours", "stored", type=Path, help="A result of these pictures: its files of ours stay, not made anew.")
@click.option("--others", "theirs", type=Path, help="The same of others' files.")
@click.option("--model", default="photo", show_default=True)
@click.option("--device", default="auto", show_default=True)
@output_options
def main(source, until, effort, flow, images, skip, stored, theirs, model, device, output, plot):
    """Measure a folder of photographs. Results of some pictures here and of others there: see bench.results."""
    files = sorted(p for p in source.iterdir() if p.suffix.lower() == ".png")[skip:][:images]
    if not files:
        raise CodecError(f"{source}: no PNG files" + f" after {skip}" * (skip > 0))
    if stored and theirs:
        raise click.UsageError("--ours and --others leave nothing to measure")
    if stored:
        kept, run = kept_from(stored, files, ours=True), Run("curves", source=source)
        rows = [row for part in measure(files, others) for row in part]
        return finish(run.beside(kept, kept["rows"] + rows, **versions()), output, plot)
    codec = Codec(model, device)
    run, known = Run("curves", codec.model, source=source, until=until, effort=effort, flow=flow), []
    if theirs:
        kept = kept_from(theirs, files, ours=False)
        run.take_others(kept)
        known = [kept["rows"]]

    def rows_of(picture: np.ndarray) -> Iterator[dict]:
        yield from ours(codec, picture, until, flow=flow, effort=effort)
        if not theirs:
            yield from others(picture)

    return finish_parts(run, chain(known, measure(files, rows_of)), output, plot)


def kept_from(stored: Path, files: list[Path], *, ours: bool) -> dict:
    """A stored result with the rows of ours alone, or of others alone; CodecError if it is of other pictures."""
    result = read_result(stored)
    rows = [r for r in result.get("rows", ()) if r.get("codec", "").startswith(OURS) == ours]
    if result.get("bench") != "curves" or {r["file"] for r in rows} != {file.name for file in files}:
        raise CodecError(f"{stored} is not a result of bench.curves for these pictures")
    return result | {"rows": rows}


if __name__ == "__main__":
    main()
