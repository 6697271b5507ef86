"""What the commands share: options, where words and files go, progress."""

from __future__ import annotations

import ctypes
import json
import os
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click
from tqdm import tqdm

from codec.errors import CodecError
from codec.images.formats import FORMATS, format_of
from codec.images.pictures import MAX_PIXELS
from ddpm.files import is_special, write_whole
from ddpm.images.pictures import Picture, load_picture, picture_files

from .batches import distinct, leave, only_one
from .streams import read_data, write_data
from .types import Device, Model

if TYPE_CHECKING:
    from ddpm.training.distributed import Workers

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

    def read(self, source, name: str, **rules) -> Picture | None:
        """A picture; None for one that cannot be read, after saying so. Of many processes, which all read, one says."""
        first = self.workers is None or self.workers.rank == 0
        try:
            picture = load_picture(source, name=name, **rules)
        except CodecError as e:
            self.failed = True
            if first:
                self.error(str(e))
            return None
        for line in picture.warnings if first else ():
            self.warn(line)
        return picture

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


def trouble(e: OSError) -> str:
    """What the system refused, and the file if it says which."""
    return f"{e.filename}: {e.strerror}" if e.filename and e.strerror else e.strerror or str(e)


def read_input(name: str) -> bytes:
    if not name:
        raise CodecError("an input has an empty name")
    try:
        return read_data() if name == "-" else Path(name).read_bytes()
    except OSError as e:
        raise CodecError(f"{name}: {e.strerror or e}") from None


def write_output(name: str, data: bytes) -> None:
    write_data(data) if name == "-" else write_whole(name, data)


def output_among(
    names: tuple[str, ...], output: str | None, suffixes: Iterable[str]
) -> tuple[tuple[str, ...], str | None]:
    """Inputs and output: without -o, the second of two names is the output if it ends in one of the suffixes."""
    if output is None and len(names) == 2 and Path(names[1]).suffix.lower() in suffixes and not os.path.isdir(names[1]):
        return names[:1], names[1]
    return names, output


def name_outputs(
    inputs: tuple[str, ...],
    output: str | None,
    suffix: str,
    force: bool,
    sources: Sequence[str] | None = None,
    skip_existing: bool = False,
    quiet: bool = False,
) -> dict[str, str]:
    """Input name -> output name. Without -o, beside the input; what exists is kept, see ``check_outputs``.

    ``sources``: the files that are read, if they are not the inputs. skip_existing: inputs whose output exists are left
    out.
    """
    only_one(force, skip_existing)
    if len(set(inputs)) != len(inputs):
        raise CodecError("an input is given twice")
    if output == "":
        raise CodecError("-o has an empty name")
    own = lambda name: ("stdin" if name == "-" else Path(name).stem) + suffix  # noqa: E731
    folder = output is not None and output != "-" and (os.path.isdir(output) or output.endswith("/"))
    if output is None:
        names = {i: "-" if i == "-" else str(Path(i).with_name(own(i))) for i in inputs}
    elif folder or len(inputs) > 1:
        if output == "-":
            raise CodecError("several files cannot go to standard output; name a folder with -o")
        if not folder and (os.path.exists(output) or Path(output).suffix.lower() in (*FORMATS, ".ddpm")):
            raise CodecError(f"{output}: several files need a folder, and this is a file; a folder's name may end in /")
        names = {i: str(Path(output) / own(i)) for i in inputs}
    else:
        names = {inputs[0]: output}
        if suffix == ".png" and output != "-":
            format_of(output)
    names = distinct(names, suffix)
    advice = "say -o to name the output, or --force to replace it" if output is None else "--force replaces it"
    sources = inputs if sources is None else sources
    existing = check_outputs(names.values(), sources, force, advice, skip_existing)
    return leave(names, existing, quiet)


def check_outputs(
    outputs: Iterable[str], sources: Iterable, force: bool, advice: str = "--force replaces it", skip_existing=False
) -> list[str]:
    """CodecError for an output that exists, unless ``force``, and for one that is the very file of a source.

    With ``skip_existing`` those that exist are returned instead. Pipes and devices are written into, so they may exist.
    """
    known, existing = set(), []
    for source in sources:
        with suppress(OSError):  # what cannot be read is said when it is read
            known.add(_identity(os.stat(source)))
    for name in outputs:
        try:
            found = None if name == "-" else os.stat(name)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as e:
            raise CodecError(f"{name}: {e.strerror or e}") from None
        if found is None or is_special(name):
            continue
        if _identity(found) in known:
            raise CodecError(f"{name} is an input too; give the output another name")
        if skip_existing:
            existing.append(name)
        elif not force:
            raise CodecError(f"{name} exists; {advice}")
    return existing


def _identity(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino


def check_sources(names: Iterable[str]) -> None:
    """CodecError for a name of pictures where nothing is; a pattern may turn out to fit."""
    for name in names:
        path = Path(name).expanduser()
        try:
            if not set(name) & set("*?[") and not path.exists():
                raise CodecError(f"{name}: No such file or directory")
        except OSError as e:
            raise CodecError(f"{name}: {e.strerror or e}") from None


def workers_on(device: str) -> Workers:
    """This process's place among those that torchrun started; torch, and with it the device, waits if it is alone."""
    from ddpm.training.distributed import join, world_size

    if world_size() > 1:
        from codec.api import pick_device

        device = pick_device(device)
    return join(device)


def with_folders(names: tuple[str, ...], suffix: str | None = None, say=None) -> tuple[str, ...]:
    """The names, a folder replaced by its files of a suffix, or its pictures, in name order; see ``picture_files``."""
    out: list[str] = []
    for name in names:
        if not name:
            raise CodecError("an input has an empty name")
        if name == "-" or not os.path.isdir(name):
            out.append(name)
            continue
        try:
            if suffix is None:
                files = [str(p) for p in picture_files(name, say, deep=False)]
            else:
                files = sorted(str(p) for p in Path(name).iterdir() if p.suffix.lower() == suffix)
        except OSError as e:
            raise CodecError(f"{name}: {e.strerror or e}") from None
        if not files:
            raise CodecError(f"{name}: no {f'{suffix} files' if suffix else 'pictures'} in this folder")
        out += files
    return tuple(out)


def counted(n: int, what: str) -> str:
    """``1 picture``, ``1,234 pictures``."""
    return f"{n:,} {what}{'' if n == 1 else 's'}"


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
device_option = click.option(
    "--device", type=Device(), default="auto", show_default=True, help="auto, cpu, cuda or cuda:N."
)
pixels_option = click.option(
    "--max-pixels", type=click.IntRange(1), default=MAX_PIXELS, show_default=True, help="Refuse larger pictures."
)
model_option = click.option(
    "--model", "name", type=Model(), default="cifar10", show_default=True, help="Name, line (its newest), or path."
)
force_option = click.option("--force", is_flag=True, help="Replace existing files.")


def options(*decorators):
    def apply(f):
        for d in reversed(decorators):
            f = d(f)
        return f

    return apply
