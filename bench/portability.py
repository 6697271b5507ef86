"""Files across arithmetics: written under each of several, read under each of the others.

    python -m bench.portability DATA [--tile 32] [--images 40] [--crop 32] [--model cifar10] [--rate R] -o OUT.json

What stands in for other machines are the settings of machines.py; each runs in a process of its own. A cell says how
many lossless files came back exactly. With --rate the files are lossy, and a cell says how far their pictures are from
those that the writer itself decodes: the largest difference, the root of the mean square, and the change of PSNR where
that is largest.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import click
import numpy as np
from tqdm import tqdm

from bench.harness.command import command
from bench.harness.pick import draw
from bench.metrics.judge import mse
from bench.reporting.output import finish
from bench.reporting.run import Run
from bench.reporting.table import Table
from codec import Codec, CodecError, Target
from codec.api import psnr
from codec.batch import outcomes
from codec.diagrams import Diagram
from ddpm.models.load import load_model

from .machines import INSTRUCTIONS, THREADS

MACHINES = {
    **THREADS,
    **{name: settings for name, settings in INSTRUCTIONS.items() if settings},
    "no oneDNN": {"DDPM_BENCH_NO_ONEDNN": "1"},
}


def work(model: str, folder: Path, name: str, rate: float) -> None:
    """Encode the pictures in ``folder`` to files in its subfolder ``name``; if that is there, decode those of all."""
    if os.environ.get("DDPM_BENCH_NO_ONEDNN"):
        import torch

        torch.backends.mkldnn.enabled = False
    codec, pictures = Codec(model, "cpu"), [np.load(f) for f in sorted(folder.glob("*.npy"))]
    if not (folder / name).exists():
        target = Target(bits_per_dim=rate) if rate else Target(lossless=True)
        (folder / name).mkdir()
        files = [file.data for file in codec.encode(pictures, target)]
        for i, data in enumerate(files):
            (folder / name / f"{i}.ddpm").write_bytes(data)
        for i, shown in enumerate(codec.decode(files) if rate else ()):
            np.save(folder / name / f"{i}.npy", shown.array)
        return
    for sub in sorted(p for p in folder.iterdir() if p.is_dir()):
        arrays = decoded(codec, [(sub / f"{i}.ddpm").read_bytes() for i in range(len(pictures))])
        shown = [None if a is None else np.broadcast_to(a.T, p.T.shape).T for a, p in zip(arrays, pictures)]
        theirs = [np.load(sub / f"{i}.npy") for i in range(len(pictures))] if rate else pictures
        cell = distances(pictures, theirs, shown) if rate else {"exact": exact(pictures, shown)}
        print(json.dumps({"written": sub.name, "read": name, **cell}), flush=True)


def exact(pictures: list[np.ndarray], shown: list[np.ndarray | None]) -> int:
    """How many came back."""
    return sum(s is not None and np.array_equal(p, s) for p, s in zip(pictures, shown))


def distances(pictures, theirs, shown) -> dict:
    """Of pictures as they are shown here from those that the writer shows; grey levels, and dB."""
    pairs = [(p, np.broadcast_to(t.T, p.T.shape).T, s) for p, t, s in zip(pictures, theirs, shown)]
    change = [psnr(mse(p, s)) - psnr(mse(p, t)) for p, t, s in pairs]
    return {
        "largest": max(int(np.abs(t.astype(int) - s).max()) for _, t, s in pairs),
        "rms": float(np.mean([mse(t, s) for _, t, s in pairs]) ** 0.5),
        "psnr": max(change, key=abs),
    }


def decoded(codec: Codec, files: list[bytes]) -> list[np.ndarray | None]:
    """Pictures together; if one of them cannot be decoded, one by one, with None for it."""
    found = outcomes(files, codec.decode, CodecError)
    return [None if isinstance(shown, CodecError) else shown.array for _, shown in found]


def measure(model: str, pictures, machines: list[str], rate: float = 0.0) -> tuple[list[dict], float]:
    """A row for each pair of machines, and the bits/dim of the files. ``rate`` in bits/dim; 0: lossless."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for i, picture in enumerate(pictures):
            np.save(Path(folder) / f"{i:05d}.npy", picture)
        for name in tqdm([*machines, *machines], desc="machines", disable=None):  # all write, then all read
            command = [sys.executable, "-m", "bench.portability", "--work", folder, "--model", model]
            command += ["--machine", name, "--rate", str(rate)]
            environment = {**os.environ, **MACHINES[name]}
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
            rows += [json.loads(line) for line in done.stdout.splitlines()]
        sizes = [f.stat().st_size for f in Path(folder, machines[0]).glob("*.ddpm")]
    return rows, 8 * sum(sizes) / sum(p.size for p in pictures)


def present(result: dict) -> tuple[list[Diagram], list[Table]]:
    """A table of who wrote and who read; nothing to draw."""
    rows = result["rows"]
    machines = list(dict.fromkeys(r["written"] for r in rows))
    cells = {(r["written"], r["read"]): said(r) for r in rows}
    what = "came back exactly" if "exact" in rows[0] else "largest difference, rms, change in dB"
    name = f"{result['images']} files of {result['bits_per_dim']:.4f} bits/dim: {what}"
    lines = [[w, *(cells.get((w, r), "") for r in machines)] for w in machines]
    return [], [Table(name, ["written (down), read (across)", *machines], lines)]


@command()
@click.argument("data", required=False)
@click.option("--tile", type=int)
@click.option("--images", default=40, show_default=True)
@click.option("--crop", default=32, show_default=True)
@click.option("--model", default="cifar10", show_default=True)
@click.option("--machine", "machines", multiple=True, type=click.Choice(list(MACHINES)), help="Default: all.")
@click.option("--rate", default=0.0, help="Lossy files of so many bits/dim; by default lossless ones.")
@click.option("--work", "folder", type=Path, hidden=True)
@click.option("-o", "--output", type=Path)
def main(data, tile, images, crop, model, machines, rate, folder, output):
    """Measure which files come back exactly where, or how nearly."""
    if folder:
        return work(model, folder, machines[0], rate)
    pictures = draw(data, tile, images, crop)
    machines = list(machines) or list(MACHINES)
    run = Run("portability", load_model(model), data=data, tile=tile, crop=crop, rate=rate)
    rows, bits_per_dim = measure(model, pictures, machines, rate)
    return finish(run.result(rows, images=len(pictures), bits_per_dim=bits_per_dim), output)


def said(cell: dict) -> str:
    return str(cell["exact"]) if "exact" in cell else f"{cell['largest']}, {cell['rms']:.3f}, {cell['psnr']:+.3f}"


if __name__ == "__main__":
    main()
