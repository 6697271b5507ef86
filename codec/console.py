"""What the commands share: options, where words and files go, progress."""

from __future__ import annotations

import ctypes
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
from tqdm import tqdm

from .errors import CodecError
from .pictures import MAX_PIXELS, write_whole

if TYPE_CHECKING:
    from ddpm.distributed import Workers

LARGE = 1 << 20  # pixels
BATCH_PIXELS = 1 << 18  # pictures of one size run through the network together, up to so many pixels


def give_memory_back(pixels: int = 0) -> None:
    """Have the GNU C library return large blocks as soon as they are free; left to itself, it keeps hundreds of MB.

    Smaller ones it shall keep, 128 MB of them: fresh memory costs as much as what is done in it. What is small depends
    on the picture: where whole maps of the network are, a tenth of the time goes into fresh ones.
    """
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", lambda *_: 0)
        mallopt(-3, 1 << (24 if pixels > LARGE else 25))  # M_MMAP_THRESHOLD
        mallopt(-1, 1 << 27)  # M_TRIM_THRESHOLD


def share_cores() -> None:
    """Have threads of OpenMP wait awake for a moment only: where others want the cores too, more makes all much slower.

    GNU's library reads this when torch is loaded.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")


class Steps(click.ParamType):
    """A number of levels of noise, or one of some words."""

    name = "T"

    def __init__(self, *words: str):
        self.words = words

    def convert(self, value, param, ctx):
        if value in self.words or isinstance(value, int):
            return value
        if not (value.isascii() and value.isdigit() and int(value) >= 2):
            self.fail(f"{value!r} is not a number of steps (2 or more), or {' or '.join(self.words)}")
        return int(value)


class Reporter:
    """Where words go: results to stdout (stderr while stdout carries data), trouble and progress to stderr."""

    def __init__(self, quiet: bool, as_json: bool, to_stdout: bool, workers: Workers | None = None):
        self.quiet, self.as_json, self.out = quiet, as_json, sys.stderr if to_stdout else sys.stdout
        self.rows, self.failed, self.workers = [], False, workers

    def row(self, words: str, **fields) -> None:
        self.rows.append(fields)
        if not self.quiet and not self.as_json:
            print(words, file=self.out, flush=True)

    def warn(self, text: str) -> None:
        print(f"warning: {text}", file=sys.stderr, flush=True)

    def error(self, text: str) -> None:
        self.failed = True
        print(f"error: {text}", file=sys.stderr, flush=True)

    def bar(self, total: int, words: str) -> tqdm:
        return tqdm(total=total or None, desc=words, unit="step", leave=False, disable=True if self.quiet else None)

    def close(self, order=()) -> None:
        """Say what there is to say in the end, files in this order; of many processes the first speaks for all."""
        rows, failed, first = self.rows, self.failed, True
        if self.workers is not None:
            rows = [row for part in self.workers.gather(rows) for row in part]
            failed, first = any(self.workers.gather(failed)), self.workers.rank == 0
        place = {name: i for i, name in enumerate(order)}
        rows = sorted(rows, key=lambda row: place.get(row["file"], len(place)))
        if self.as_json and first:
            print(json.dumps(rows, indent=1), file=self.out)
        if failed:
            sys.exit(2)


def read_input(name: str) -> bytes:
    try:
        return sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
    except OSError as e:
        raise CodecError(f"{name}: {e.strerror or e}") from None


def write_output(name: str, data: bytes) -> None:
    if name != "-":
        return write_whole(name, data)
    try:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    except OSError as e:
        raise CodecError(f"standard output: {e.strerror or e}") from None
    return None


def name_outputs(inputs: tuple[str, ...], output: str | None, suffix: str, force: bool) -> dict[str, str]:
    """Input name -> output name. Without -o, beside the input; never over an existing file unless asked."""
    if len(set(inputs)) != len(inputs):
        raise CodecError("an input is given twice")
    own = lambda name: ("stdin" if name == "-" else Path(name).stem) + suffix  # noqa: E731
    folder = output is not None and output != "-" and (Path(output).is_dir() or output.endswith("/"))
    if output is None:
        names = {i: "-" if i == "-" else str(Path(i).with_name(own(i))) for i in inputs}
    elif folder or len(inputs) > 1:
        if output == "-":
            raise CodecError("several files cannot go to standard output; name a folder with -o")
        if Path(output).exists() and not Path(output).is_dir():
            raise CodecError(f"{output}: several files need a folder, and this is a file")
        names = {i: str(Path(output) / own(i)) for i in inputs}
    else:
        return {inputs[0]: output}
    if len(set(names.values())) != len(names):
        raise CodecError("two inputs would be written under the same name; encode them separately")
    taken = [n for n in names.values() if n != "-" and Path(n).exists()]
    if taken and not force:
        raise CodecError(f"{taken[0]} exists; say -o to name the output, or --force to replace it")
    return names


def with_folders(names: tuple[str, ...]) -> tuple[str, ...]:
    """The names, a folder replaced by the pictures that lie in it, in name order."""
    from ddpm.data import SUFFIXES

    out: list[str] = []
    for name in names:
        if name == "-" or not Path(name).is_dir():
            out.append(name)
            continue
        pictures = sorted(str(p) for p in Path(name).iterdir() if p.suffix.lower() in SUFFIXES)
        if not pictures:
            raise CodecError(f"{name}: no pictures in this folder")
        out += pictures
    return tuple(out)


def make_folder(name: str) -> None:
    if name != "-":
        try:
            Path(name).parent.mkdir(parents=True, exist_ok=True)
        except OSError as e:
            raise CodecError(f"{Path(name).parent}: {e.strerror or e}") from None


common = [
    click.option("--quiet", is_flag=True, help="No progress and no report."),
    click.option("--json", "as_json", is_flag=True, help="Report as JSON on stdout."),
]
device_option = click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda.")
pixels_option = click.option("--max-pixels", default=MAX_PIXELS, show_default=True, help="Refuse larger pictures.")
force_option = click.option("--force", is_flag=True, help="Replace existing files.")


def options(*decorators):
    def apply(f):
        for d in reversed(decorators):
            f = d(f)
        return f

    return apply
