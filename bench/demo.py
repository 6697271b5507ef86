"""The README's picture: a photograph at three rates beside JPEG and WebP at no fewer bytes, and the progressive strip.

    python -m bench.demo [PICTURE] -o demo

Writes the files themselves, demo.json, comparison.png and progressive.png.
"""

from __future__ import annotations

import time
from pathlib import Path

import click
import numpy as np
from matplotlib.figure import Figure
from tqdm import tqdm

from bench.baselines.peers import PEERS, at_least
from bench.harness.command import command, folder
from bench.harness.photograph import PICTURE
from bench.metrics.judge import decoded, mse
from bench.reporting.output import save
from bench.reporting.run import Run
from bench.reporting.table import Table
from codec import Codec, Target
from codec.api import psnr
from codec.images.pictures import read_picture

NAMES = ("ddpm-codec", "WebP", "JPEG")
RATES = (0.05, 0.1, 0.2)  # bits/dim
SHARES = (0.02, 0.06, 0.15, 0.35, 0.65, 1.0)  # of a file


def measure(picture: np.ndarray, codec: Codec, folder: Path, rates=RATES) -> tuple[list[dict], dict, bytes]:
    """Rows of figures, pictures by (name, rate), and the file of the highest rate."""
    rows, shown, largest = [], {}, b""
    for rate in rates:
        start = time.monotonic()
        plan = codec.plan(*picture.shape[:2], picture.ndim == 2)
        with tqdm(total=plan.steps, desc=f"{rate} bits/dim", disable=None, leave=False) as bar:
            [file] = codec.encode([picture], Target(bits_per_dim=rate), progress=bar.update)
        middle = time.monotonic()
        array = codec.decode([file.data])[0].array
        seconds = (middle - start, time.monotonic() - middle)
        (folder / f"ddpm-{rate}.ddpm").write_bytes(file.data)
        largest = file.data
        rows.append(row("ddpm-codec", rate, picture, array, len(file.data), seconds=seconds))
        shown["ddpm-codec", rate] = array
        for name in ("JPEG", "WebP"):
            data = at_least(PEERS[name], picture, len(file.data))
            array = decoded(data, picture.ndim == 2)
            (folder / f"{name.lower()}-{rate}.{name.lower()}").write_bytes(data)
            rows.append(row(name, rate, picture, array, len(data)))
            shown[name, rate] = array
    return rows, shown, largest


def row(name, rate, picture, array, n_bytes, *, seconds=None) -> dict:
    out = {
        "codec": name,
        "asked_bits_per_dim": rate,
        "bytes": n_bytes,
        "bits_per_dim": 8 * n_bytes / picture.size,
        "psnr": psnr(mse(array, picture)),
    }
    return out | ({"encode_s": seconds[0], "decode_s": seconds[1]} if seconds else {})


def present(result: dict) -> tuple[list, list[Table]]:
    """PSNR at each rate asked for; the others have no fewer bytes."""
    psnr_of = {(r["asked_bits_per_dim"], r["codec"]): f"{r['psnr']:.2f} dB" for r in result["rows"]}
    rates = sorted({rate for rate, _ in psnr_of})
    lines = [[f"{rate:.2f}", *(psnr_of[rate, name] for name in NAMES)] for rate in rates]
    return [], [Table("PSNR", ["bits/dim", *NAMES], lines)]


def draw_comparison(picture, rows, shown, path: Path) -> None:
    """One row per rate, one column per codec, a detail of the picture in each; figures underneath."""
    rates = sorted({r["asked_bits_per_dim"] for r in rows})
    h, w = picture.shape[:2]
    aspect = h / w
    figure = Figure(figsize=(16, 16 / 4 * aspect * len(rates) + 0.45 * len(rates)))
    for line, rate in zip(figure.subplots(len(rates), 4, squeeze=False), rates):
        line[0].imshow(picture, cmap="gray", vmin=0, vmax=255)
        line[0].set_xlabel(f"original, {w}x{h}")
        for axis, name in zip(line[1:], NAMES):
            r = next(r for r in rows if r["codec"] == name and r["asked_bits_per_dim"] == rate)
            axis.imshow(shown[name, rate], cmap="gray", vmin=0, vmax=255)
            axis.set_xlabel(f"{name}: {r['bytes']} bytes, {r['bits_per_dim']:.3f} bits/dim, {r['psnr']:.2f} dB")
    finish(figure, path)


def draw_progressive(codec: Codec, data: bytes, path: Path) -> None:
    """What the first bytes of one file show."""
    figure = Figure(figsize=(16, 2.4))
    for axis, share in zip(figure.subplots(1, len(SHARES)), SHARES):
        prefix = data[: max(12, round(share * len(data)))]
        axis.imshow(codec.decode([prefix])[0].array, cmap="gray", vmin=0, vmax=255)
        axis.set_xlabel(f"first {len(prefix)} bytes")
    finish(figure, path)


def finish(figure: Figure, path: Path) -> None:
    for axis in figure.axes:
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
    figure.tight_layout(pad=0.4)
    figure.savefig(path, dpi=90)


@command()
@click.argument("picture", type=Path, default=PICTURE)
@click.option("-o", "--output", type=Path, callback=folder, default=Path("demo"), show_default=True)
@click.option("--model", default="photo", show_default=True)
def main(picture, output, model):
    """Encode PICTURE at three rates, decode, compare, draw."""
    array, codec = read_picture(picture), Codec(model)
    output.mkdir(parents=True, exist_ok=True)
    run = Run("demo", codec.model, picture=picture)
    rows, shown, largest = measure(array, codec, output)
    save(run.result(rows), output / "demo.json")
    draw_comparison(array, rows, shown, output / "comparison.png")
    draw_progressive(codec, largest, output / "progressive.png")
    for r in rows:
        seconds = f", encode {r['encode_s']:.0f} s, decode {r['decode_s']:.0f} s" if "encode_s" in r else ""
        print(f"{r['codec']:10} {r['bytes']:7} bytes  {r['bits_per_dim']:.3f} bits/dim  {r['psnr']:.2f} dB{seconds}")
    print(f"pictures: {output / 'comparison.png'}, {output / 'progressive.png'}")


if __name__ == "__main__":
    main()
