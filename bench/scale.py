"""Seconds and peak memory by the size of the picture: the command line itself, one process for each file.

    python -m bench.scale PICTURE [--megapixels 0.25,1,2,4,8] [--rate 0.1] [--model photo] -o scale.json -p scale.png

Pictures of other sizes are PICTURE cut, or continued by reflection, so that all have the same content per pixel. What
the command takes to start is measured with one of 8x8 pixels, and seconds per megapixel are of what it takes beyond.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from itertools import chain
from pathlib import Path

import click
import numpy as np
from PIL import Image
from tqdm import tqdm

from bench.harness.command import POSITIVE, command, listed
from bench.harness.photograph import sized
from bench.metrics.judge import mse
from bench.reporting.output import finish_parts, output_options
from bench.reporting.run import Run
from bench.reporting.table import Table
from codec.api import psnr
from codec.device import pick_device
from codec.diagrams import Axis, Diagram, Series
from codec.images.pictures import read_picture
from ddpm.models.load import load_model

WHAT = ("encode", "decode")
LEAST = 64e-6  # megapixels of the picture that says what it takes to start


# The command line under a small process of its own: what a process inherits counts to its peak.
UNDER = """
import resource, subprocess, sys
status = subprocess.call([sys.executable, "-m", "codec", *sys.argv[1:]])
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(status)
"""


def run(*args: str) -> tuple[float, float]:
    """The command line with these arguments: seconds, and peak memory in MB (2^20 bytes)."""
    start = time.monotonic()
    process = subprocess.run([sys.executable, "-c", UNDER, *args], stdout=subprocess.PIPE, text=True)
    if process.returncode:
        raise click.ClickException(f"{' '.join(args)}: status {process.returncode}")
    return time.monotonic() - start, int(process.stdout.split()[-1]) / 1024


def measure(picture: np.ndarray, megapixels: float, rate: float, model: str, folder: Path) -> dict:
    """One row: a picture of that size, encoded and decoded."""
    big = sized(picture, 1e6 * megapixels)
    names = [str(folder / name) for name in ("a.png", "a.ddpm", "b.png")]
    Image.fromarray(big).save(names[0], compress_level=1)
    common = ["--model", model, "--max-pixels", str(big.shape[0] * big.shape[1]), "--quiet", "--force"]
    encode = run("encode", names[0], "-o", names[1], "--rate", str(rate), *common)
    decode = run("decode", names[1], "-o", names[2], *common)
    return {
        "width": big.shape[1],
        "height": big.shape[0],
        "megapixels": big.shape[0] * big.shape[1] / 1e6,
        "bytes": os.path.getsize(names[1]),
        "psnr": psnr(mse(big, np.asarray(Image.open(names[2])))),
        "encode_s": encode[0],
        "decode_s": decode[0],
        "encode_mb": encode[1],
        "decode_mb": decode[1],
    }


def present(result: dict) -> tuple[list[Diagram], list[Table]]:
    """Seconds per megapixel, and memory, by size."""
    first, *rows = result["rows"]
    size = [r["megapixels"] for r in rows]
    seconds = [Series(w, size, [beyond(first, r, w) / r["megapixels"] for r in rows], "files") for w in WHAT]
    memory = [Series(w, size, [r[w + "_mb"] for r in rows], "files") for w in WHAT]
    memory.append(Series("1 GB + 100 bytes per pixel", size, [1000 + 100 * n for n in size], "ideal"))
    across = Axis("megapixels", "log")
    diagrams = [
        Diagram("time by size", across, Axis("seconds per megapixel"), seconds),
        Diagram("memory by size", across, Axis("peak memory, MB"), memory),
    ]
    columns = [f"{what} {unit}" for what in WHAT for unit in ("s", "s/MP beyond the start", "MB")]
    lines = []
    for r in result["rows"]:
        costs = (costs_of(first, r, what) for what in WHAT)
        lines.append([f"{r['width']}x{r['height']}", f"{r['bytes']:,}", f"{r['psnr']:.2f}", *chain(*costs)])
    return diagrams, [Table("time and memory by size", ["size", "bytes", "PSNR dB", *columns], lines)]


def beyond(first: dict, row: dict, what: str) -> float:
    """Seconds that a picture takes beyond those of the smallest, ``first``."""
    return row[what + "_s"] - first[what + "_s"]


def costs_of(first: dict, row: dict, what: str) -> list[str]:
    rate = "" if row is first else f"{beyond(first, row, what) / row['megapixels']:.1f}"
    return [f"{row[what + '_s']:.1f}", rate, f"{row[what + '_mb']:.0f}"]


@command()
@click.argument("picture", type=Path)
@click.option("--megapixels", default="0.25,1,2,4,8", show_default=True, callback=listed(float, LEAST))
@click.option("--rate", type=POSITIVE, default=0.1, show_default=True, help="Bits/dim.")
@click.option("--model", default="photo", show_default=True)
@output_options
def main(picture, megapixels, rate, model, output, plot):
    """Measure time and memory."""
    array, sizes = read_picture(picture), tqdm([LEAST, *megapixels], desc="sizes", disable=None)
    measured = Run("scale", load_model(model, pick_device("auto")), picture=picture, rate=rate)
    with tempfile.TemporaryDirectory() as folder:
        rows = (measure(array, size, rate if size > LEAST else 1.0, model, Path(folder)) for size in sizes)
        finish_parts(measured, ([row] for row in rows), output, plot)


if __name__ == "__main__":
    main()
