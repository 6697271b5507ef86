"""Lossless files across arithmetics: written under each of several, read under each of the others.

    python -m bench.portability DATA [--tile 32] [--images 40] [--crop 32] [--model cifar10] -o portability.json

What stands in for other machines are settings that make libraries take other instructions; each runs in a process of
its own. A cell says how many files came back exactly.
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

from codec import Codec, CodecError, Target

from .pick import alike, draw

OLD = {"ONEDNN_MAX_CPU_ISA": "SSE41", "MKL_CBWR": "COMPATIBLE", "ATEN_CPU_CAPABILITY": "default"}
AVX2 = {"ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_CBWR": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}
NUMPY_OLD = "AVX512F AVX512CD AVX512_SKX AVX512_CLX AVX512_CNL AVX512_ICL AVX512_SPR AVX2 FMA3"
NUMPY_AVX2 = "AVX512F AVX512CD AVX512_SKX AVX512_CLX AVX512_CNL AVX512_ICL AVX512_SPR"
MACHINES = {
    "two threads": {"OMP_NUM_THREADS": "2"},
    "one thread": {"OMP_NUM_THREADS": "1"},
    "SSE4.1": OLD | {"NPY_DISABLE_CPU_FEATURES": NUMPY_OLD},
    "AVX2": AVX2 | {"NPY_DISABLE_CPU_FEATURES": NUMPY_AVX2},
    "no oneDNN": {"DDPM_BENCH_NO_ONEDNN": "1"},
}


def work(model: str, folder: Path) -> None:
    """Encode the pictures in ``folder`` to files here, or decode all that lie in its subfolders."""
    if os.environ.get("DDPM_BENCH_NO_ONEDNN"):
        import torch

        torch.backends.mkldnn.enabled = False
    codec, name = Codec(model, "cpu"), os.environ["DDPM_BENCH_NAME"]
    pictures = [np.load(f) for f in sorted(folder.glob("*.npy"))]
    if os.environ["DDPM_BENCH_TASK"] == "encode":
        (folder / name).mkdir()
        for _, members in alike(pictures):
            for i, file in zip(members, codec.encode([pictures[i] for i in members], Target(lossless=True))):
                (folder / name / f"{i}.ddpm").write_bytes(file.data)
        return
    for sub in sorted(p for p in folder.iterdir() if p.is_dir()):
        good = 0
        for _, members in alike(pictures):
            files = [(sub / f"{i}.ddpm").read_bytes() for i in members]
            for i, shown in zip(members, decoded(codec, files)):
                if shown is not None:
                    good += np.array_equal(np.broadcast_to(shown.T, pictures[i].T.shape).T, pictures[i])
        print(json.dumps({"written": sub.name, "read": name, "exact": int(good)}), flush=True)


def decoded(codec: Codec, files: list[bytes]) -> list[np.ndarray | None]:
    """Pictures of one size, together; if one of them cannot be decoded, one by one, with None for it."""
    try:
        return [d.array for d in codec.decode(files)]
    except CodecError:
        return [decoded(codec, [f])[0] for f in files] if len(files) > 1 else [None]


def measure(model: str, pictures, machines: list[str]) -> dict:
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for i, picture in enumerate(pictures):
            np.save(Path(folder) / f"{i:05d}.npy", picture)
        for task in ("encode", "decode"):
            for name in machines:
                extra = {**MACHINES[name], "DDPM_BENCH_NAME": name, "DDPM_BENCH_TASK": task}
                command = [sys.executable, "-m", "bench.portability", "--work", folder, "--model", model]
                done = subprocess.run(command, env={**os.environ, **extra}, capture_output=True, text=True, check=True)
                rows += [json.loads(line) for line in done.stdout.splitlines()]
        sizes = [f.stat().st_size for f in Path(folder, machines[0]).iterdir()]
    return {"images": len(pictures), "bits_per_dim": 8 * sum(sizes) / sum(p.size for p in pictures), "cells": rows}


@click.command()
@click.argument("data", required=False)
@click.option("--tile", type=int)
@click.option("--images", default=40, show_default=True)
@click.option("--crop", default=32, show_default=True)
@click.option("--model", default="cifar10", show_default=True)
@click.option("--machine", "machines", multiple=True, type=click.Choice(list(MACHINES)), help="Default: all.")
@click.option("--work", "folder", type=Path, hidden=True)
@click.option("-o", "--output", type=Path)
def main(data, tile, images, crop, model, machines, folder, output):
    """Measure which files come back exactly where."""
    if folder:
        return work(model, folder)
    pictures = draw(data, tile, images, crop)
    machines = list(machines) or list(MACHINES)
    result = measure(model, pictures, machines)
    if output:
        output.write_text(json.dumps(result, indent=1))
    print(f"{result['images']} files of {result['bits_per_dim']:.4f} bits/dim; exact by who wrote (down) and read")
    print(" " * 12 + "".join(f"{m:>12}" for m in machines))
    for m in machines:
        print(f"{m:12}" + "".join(f"{c['exact']:12}" for c in result["cells"] if c["written"] == m))
    return None


if __name__ == "__main__":
    main()
