"""Seconds and peak memory by the size of the picture: the command line itself, one process for each file.

    python -m bench.scale PICTURE [--megapixels 0.25,1,2,4,8] [--rate 0.1] [--model photo] -o scale.json -p scale.png

Pictures of other sizes are PICTURE cut, or continued by reflection, so that all have the same content per pixel.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click
import numpy as np
from PIL import Image

from codec.pictures import read_picture
from ddpm.model import mirror


def sized(picture: np.ndarray, pixels: float) -> np.ndarray:
    """About so many pixels, with the sides in the proportion of the picture (H, W, 3)."""
    factor = math.sqrt(pixels / (picture.shape[0] * picture.shape[1]))
    height, width = (max(1, round(factor * n)) for n in picture.shape[:2])
    rows, columns = (mirror(n, size).numpy() for n, size in zip(picture.shape, (height, width)))
    return np.ascontiguousarray(picture[rows][:, columns])


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
    error = np.mean((np.asarray(Image.open(names[2]), np.float32) - big) ** 2)
    return {
        "width": big.shape[1],
        "height": big.shape[0],
        "megapixels": big.shape[0] * big.shape[1] / 1e6,
        "bytes": os.path.getsize(names[1]),
        "psnr": float(10 * np.log10(255**2 / error)),
        "encode_s": encode[0],
        "decode_s": decode[0],
        "encode_mb": encode[1],
        "decode_mb": decode[1],
    }


def draw(rows: list[dict], path: Path) -> None:
    """Seconds per megapixel, and memory, by size."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    size = [r["megapixels"] for r in rows]
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.5), layout="constrained")
    for what in ("encode", "decode"):
        axes[0].plot(size, [r[what + "_s"] / r["megapixels"] for r in rows], "o-", label=what)
        axes[1].plot(size, [r[what + "_mb"] for r in rows], "o-", label=what)
    axes[1].plot(size, [1000 + 100 * n for n in size], "k:", label="1 GB + 100 bytes per pixel")
    for axis, label in zip(axes, ("seconds per megapixel", "peak memory, MB")):
        axis.set(xlabel="megapixels", ylabel=label, xscale="log", ylim=(0, None))
        axis.legend()
    figure.savefig(path, dpi=120)


@click.command()
@click.argument("picture", type=Path)
@click.option("--megapixels", default="0.25,1,2,4,8", show_default=True)
@click.option("--rate", default=0.1, show_default=True, help="Bits/dim.")
@click.option("--model", default="photo", show_default=True)
@click.option("-o", "--output", type=Path)
@click.option("-p", "--plot", type=Path)
def main(picture, megapixels, rate, model, output, plot):
    """Measure time and memory."""
    array, rows = read_picture(picture), []
    print("  width  height    bytes   PSNR   encode s (/MP)     MB   decode s (/MP)     MB")
    with tempfile.TemporaryDirectory() as folder:
        for size in megapixels.split(","):
            rows.append(r := measure(array, float(size), rate, model, Path(folder)))
            each = [
                f"{r[k + '_s']:9.1f} {r[k + '_s'] / r['megapixels']:6.1f} {r[k + '_mb']:7.0f}"
                for k in ("encode", "decode")
            ]
            print(f"{r['width']:7} {r['height']:7} {r['bytes']:8} {r['psnr']:6.2f} {each[0]} {each[1]}", flush=True)
            if output:
                output.write_text(
                    json.dumps({"rate": rate, "model": model, "cores": os.cpu_count(), "rows": rows}, indent=1)
                )
    if plot:
        draw(rows, plot)


if __name__ == "__main__":
    main()
