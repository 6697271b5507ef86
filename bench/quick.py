"""Every measurement in small, on shipped models and a shipped photograph: minutes on two cores, and all the pictures.

    python -m bench.quick [-o bench-quick]

What comes out shows that everything works and what it looks like; the figures are of too few pictures to mean much.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

import click
from tqdm import tqdm

from bench.harness.command import command, folder, listed
from bench.harness.photograph import PICTURE
from codec.errors import CodecError

AT = shlex.quote(str(PICTURE))
SHEET = f"{AT} --tile 32"  # the photograph as a contact sheet of small pictures
COMMANDS = {
    "channel": "channel --dims 1024 --bits 32,64,128 --memory 10,14 --chunk 8,12 --draws 8 --seconds 0.4",
    "rate-distortion": f"rate_distortion {SHEET} --images 12 --steps 4,8,13,19 --ideal 60 --ideal-images 6"
    " --recon-images 4",
    "lossless": f"lossless {SHEET} --images 4",
    "archive": f"archive {SHEET} --images 24 --steps 10",
    "growth": f"archive {SHEET} --images 8 --steps 10 --growth",
    "bounds": f"bounds {SHEET} --images 24 --steps 10,100,inf",
    "agreement": f"agreement {SHEET} --images 4",
    "chain": f"chain {SHEET} --images 4 --until -3.5 --fine 60",
    "curves": f"curves {shlex.quote(str(PICTURE.parent))} --until -0.3",
    "boundaries": f"boundaries {AT} --rate 0.05",
    "scale": f"scale {AT} --megapixels 0.02,0.05 --rate 0.05",
    "speed": "speed --model cifar10 --sizes 32 --batches 1,4",
}


def run(name: str, command: str, folder: Path) -> float:
    """One measurement in a process of its own, with JSON and picture in the folder: seconds."""
    module, *options = shlex.split(command)
    out = ["-o", str(folder / f"{name}.json"), "-p", str(folder / f"{name}.png")]
    start = time.monotonic()
    process = subprocess.run(
        [sys.executable, "-m", f"bench.{module}", *options, *out],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    if process.returncode:
        raise CodecError(f"{name}: status {process.returncode}")
    (folder / f"{name}.txt").write_text(process.stdout)
    return time.monotonic() - start


@command()
@click.option(
    "-o", "--output", type=Path, callback=folder, default=Path("bench-quick"), show_default=True, help="Folder."
)
@click.option("--only", default=",".join(COMMANDS), callback=listed(str, among=COMMANDS), help="By default all.")
def main(output, only):
    """Measure a little of everything."""
    output.mkdir(parents=True, exist_ok=True)
    for name in tqdm(only, desc="measurements", disable=None):
        click.echo(f"{name:16} {run(name, COMMANDS[name], output):6.0f} s")
    results = [str(output / f"{name}.json") for name in only]
    page = ["-s", str(output / "stages.json"), "-o", str(output / "report.html")]
    if status := subprocess.call([sys.executable, "-m", "bench.report", *results, "--rate", "0.1", *page]):
        raise CodecError(f"bench.report: status {status}")


if __name__ == "__main__":
    main()
