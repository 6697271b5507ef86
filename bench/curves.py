"""Rate-distortion curves on photographs: real files of ours and of classical codecs, BD-rates, and published curves.

    python -m bench.curves FOLDER [--until -4.8] [--flow] [--images 24] [--model photo] -o curves.json -p curves.png
    python -m bench.curves curves.json ... -p curves.png        # the picture and the table once more

One file of ours for each picture, down to the noise level gamma = --until, and cut after every whole step on the way; a
point is one number of steps for all pictures, so an equal noise level. Of the others files over a ladder of qualities.
PSNR (RGB) and MS-SSIM (luma) are means over pictures, as in published curves, see literature.py.
BD-rates are over the PSNR that ours and the other have in common. --flow: every sixth point also with ``recon`` flow.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np
from tqdm import tqdm

from codec import Codec, Target
from codec.api import psnr
from codec.pictures import read_picture

from . import literature
from .bd import bd_rate
from .judge import judge, judge_file
from .peers import PEERS, modern

OURS = "ddpm-codec"
KODAK = {f"kodim{i:02}.png" for i in range(1, 25)}  # what published curves are means over
LEAST = 0.015  # bits/dim of the first point
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
                yield {"codec": OURS + ", flow", "setting": setting} | judge(picture, array, stage.bytes)


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


def draw(found: dict, others: dict, path: Path) -> None:
    """PSNR and MS-SSIM over the rate."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(12, 5), layout="constrained")
    decibels = {"psnr": lambda v: v, "ms_ssim": lambda v: -10 * math.log10(1 - v)}
    for axis, key, label in zip(axes, decibels, ("PSNR, dB", "MS-SSIM, dB (-10 log10(1 - v))")):
        for name, points in found.items():
            ours = name == OURS
            axis.plot(
                [p["bits_per_dim"] for p in points],
                [decibels[key](p[key]) for p in points],
                "o-",
                label=name,
                linewidth=2.5 if ours else 1.2,
                color="black" if ours else None,
                markersize=4,
                zorder=3 if ours else 2,
            )
        axis.set(xlabel="bits/dim (whole files)", ylabel=label, xscale="log", xlim=(0.02, 1.2))
        axis.grid(alpha=0.3)
    for name, points in others.items():
        axes[0].plot([p["bits_per_dim"] for p in points], [p["psnr"] for p in points], ":", label=f"{name}, published")
    axes[0].set_ylim(20, 46)
    axes[0].legend(fontsize=8)
    figure.savefig(path, dpi=110)


@click.command()
@click.argument("source", type=Path, nargs=-1, required=True)
@click.option("--until", default=-4.8, show_default=True, help="Gamma (-log SNR) of the last point.")
@click.option("--flow", is_flag=True, help="Some points with recon flow as well.")
@click.option("--images", type=int, help="Only the first so many pictures.")
@click.option("--model", default="photo", show_default=True)
@click.option("--device", default="auto", show_default=True)
@click.option("-o", "--output", type=Path)
@click.option("-p", "--plot", type=Path)
def main(source, until, flow, images, model, device, output, plot):
    """Measure a folder of photographs, or show what was measured, of some pictures here and of others there."""
    if source[0].is_file():
        parts = [json.loads(path.read_text()) for path in source]
        if len({part["fingerprint"] for part in parts}) > 1:
            raise click.ClickException("measured with different models")
        result = parts[0] | {"rows": [row for part in parts for row in part["rows"]]}
        if output:
            output.write_text(json.dumps(result, indent=1))
    else:
        codec, peers = Codec(model, device), PEERS | modern()
        files = sorted(p for p in source[0].iterdir() if p.suffix.lower() == ".png")[:images]
        rows = []
        for file in tqdm(files, desc="pictures", disable=None):
            rows += measure(file, codec, until, flow, peers)
            result = {"model": codec.model.name, "fingerprint": codec.model.fingerprint.hex(), "rows": rows}
            if output:
                output.write_text(json.dumps(result, indent=1))
    files = {r["file"] for r in result["rows"]}
    found, others = curves(result["rows"]), published(files)
    print(f"{len(files)} pictures, model {result['model']}")
    print("codec        setting   bits/dim   PSNR dB   MS-SSIM")
    for name, points in found.items():
        for p in points:
            print(f"{name:12} {p['setting']:7}   {p['bits_per_dim']:8.4f}   {p['psnr']:7.2f}   {p['ms_ssim']:.4f}")
    print("bits of ours at equal PSNR (BD-rate):")
    for name, percent in advantages(found | others).items():
        print(f"  {percent:+6.1f} % against {name}{', published' if name in others else ''}")
    if plot:
        draw(found, others, plot)


if __name__ == "__main__":
    main()
