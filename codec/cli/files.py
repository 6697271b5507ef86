"""Files that a command reads and writes, and what its outputs are called."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from codec.errors import CodecError, as_mistakes, naming
from codec.images.formats import FORMATS, format_of
from ddpm.files import is_special, write_whole
from ddpm.images.pictures import picture_files

from .streams import read_data, write_data

if TYPE_CHECKING:
    from ddpm.diffusion.reverse import Reverse
    from ddpm.models.model import DDPM

SUFFIX = ".ddpm"


def read_input(name: str) -> bytes:
    if not name:
        raise CodecError("an input has an empty name")
    with naming(name):
        return read_data() if name == "-" else Path(name).read_bytes()


def read_model(name: str, device: str) -> DDPM:
    """A model by its name or path, on a device."""
    from ddpm.models.load import load_model

    with as_mistakes():
        return load_model(name, device)


def read_reverse(name: str, device: str, variance: str | None, clip: bool | None = None, bf16: bool = False) -> Reverse:
    """The reverse process of a model, by default as it was trained for."""
    from ddpm.diffusion.reverse import Reverse

    with as_mistakes():
        return Reverse(read_model(name, device), variance, clip, bf16)


def write_output(name: str, data: bytes) -> None:
    """To a file, whole or not at all, whose folder is made; or - for standard output."""
    if name == "-":
        write_data(data)
        return
    with naming(Path(name).parent):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
    write_whole(name, data)


def with_folders(names: tuple[str, ...], suffix: str | None = None, say=None) -> tuple[str, ...]:
    """The names, a folder replaced by its files of a suffix, or its pictures, in name order; see ``picture_files``."""
    out: list[str] = []
    for name in names:
        if not name:
            raise CodecError("an input has an empty name")
        if name == "-" or not os.path.isdir(name):
            out.append(name)
            continue
        with naming(name):
            if suffix is None:
                files = [str(p) for p in picture_files(name, say, deep=False)]
            else:
                files = sorted(str(p) for p in Path(name).iterdir() if p.suffix.lower() == suffix)
        if not files:
            raise CodecError(f"{name}: no {f'{suffix} files' if suffix else 'pictures'} in this folder")
        out += files
    return tuple(out)


def check_sources(names: Iterable[str]) -> None:
    """CodecError for a name of pictures where nothing is; a pattern may turn out to fit."""
    for name in names:
        with naming(name):
            if not set(name) & set("*?["):
                Path(name).expanduser().stat()


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
    *,
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
    names = distinct(outputs_of(inputs, output, suffix), suffix)
    advice = "say -o to name the output, or --force to replace it" if output is None else "--force replaces it"
    existing = set(check_outputs(names.values(), inputs if sources is None else sources, force, advice, skip_existing))
    left = {i: o for i, o in names.items() if o not in existing}
    say_left(len(names) - len(left), quiet)
    return left


def outputs_of(inputs: tuple[str, ...], output: str | None, suffix: str) -> dict[str, str]:
    """Input name -> output name: beside the input, in a folder, or as one output is called."""
    own = lambda name: ("stdin" if name == "-" else Path(name).stem) + suffix  # noqa: E731
    folder = output is not None and output != "-" and (os.path.isdir(output) or output.endswith("/"))
    if output is None:
        return {i: "-" if i == "-" else str(Path(i).with_name(own(i))) for i in inputs}
    if folder or len(inputs) > 1:
        if output == "-":
            raise CodecError("several files cannot go to standard output; name a folder with -o")
        if not folder and (os.path.exists(output) or Path(output).suffix.lower() in (*FORMATS, SUFFIX)):
            raise CodecError(f"{output}: several files need a folder, and this is a file; a folder's name may end in /")
        return {i: str(Path(output) / own(i)) for i in inputs}
    if suffix == ".png" and output != "-":
        format_of(output)
    return dict.fromkeys(inputs, output)


def distinct(names: dict[str, str], suffix: str) -> dict[str, str]:
    """Input -> output, where two inputs that differ in their suffix, a.png and a.jpg, keep it: a.png.ddpm."""
    count, seen, out = Counter(names.values()), {}, {}
    for name, output in names.items():
        out[name] = output if count[output] == 1 else str(Path(output).with_name(Path(name).name + suffix))
        if (other := seen.setdefault(out[name], name)) != name:
            raise CodecError(f"{other} and {name} would both be written as {out[name]}; treat them separately")
    return out


def check_outputs(
    outputs: Iterable[str],
    sources: Iterable,
    force: bool,
    advice: str = "--force replaces it",
    skip_existing: bool = False,
) -> list[str]:
    """CodecError for an output that exists, unless ``force``, and for one that is the very file of a source.

    With ``skip_existing`` those that exist are returned instead. Pipes and devices are written into, so they may exist.
    """
    known, existing = set(), []
    for source in sources:
        with suppress(OSError):  # what cannot be read is said when it is read
            known.add(_identity(os.stat(source)))
    for name in outputs:
        found = None
        with naming(name), suppress(FileNotFoundError, NotADirectoryError):
            found = None if name == "-" else os.stat(name)
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


def only_one(force: bool, skip_existing: bool) -> None:
    if force and skip_existing:
        raise CodecError("say either --force or --skip-existing")


def say_left(count: int, quiet: bool) -> None:
    if count and not quiet and os.environ.get("RANK", "0") == "0":
        print(f"{count} exist{'s' if count == 1 else ''}: left alone", file=sys.stderr, flush=True)
