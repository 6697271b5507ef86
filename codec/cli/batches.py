"""Batches of files: one that is bad does not lose the others, and a batch can be taken up again."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path

import click

from codec.errors import CodecError

skip_bad_option = click.option("--skip-bad", is_flag=True, help="Leave out pictures that cannot be read; say which.")
skip_existing_option = click.option(
    "--skip-existing", is_flag=True, help="Leave existing outputs alone: take a batch up again."
)


def only_one(force: bool, skip_existing: bool) -> None:
    if force and skip_existing:
        raise CodecError("say either --force or --skip-existing")


def leave(names: dict[str, str], existing: Iterable[str], quiet: bool) -> dict[str, str]:
    """Input -> output without those that exist; says how many."""
    existing = set(existing)
    left = {i: o for i, o in names.items() if o not in existing}
    say_left(len(names) - len(left), quiet)
    return left


def say_left(count: int, quiet: bool) -> None:
    if count and not quiet and os.environ.get("RANK", "0") == "0":
        print(f"{count} exist{'s' if count == 1 else ''}: left alone", file=sys.stderr, flush=True)


def distinct(names: dict[str, str], suffix: str) -> dict[str, str]:
    """Input -> output, where two inputs that differ in their suffix, a.png and a.jpg, keep it: a.png.ddpm."""
    groups: dict[str, list[str]] = {}
    for name, output in names.items():
        groups.setdefault(output, []).append(name)
    out = {}
    for output, members in groups.items():
        for name in members:
            whole = Path(output).with_name(Path(name).name + suffix)
            out[name] = output if len(members) == 1 else str(whole)
    out, seen = {name: out[name] for name in names}, {}
    for name, output in out.items():
        if (other := seen.setdefault(output, name)) != name:
            raise CodecError(f"{other} and {name} would both be written as {output}; treat them separately")
    return out


def carried(decoded) -> dict[str, bytes | None]:
    """What a decoded file has beside the pixels, for ``picture_bytes``."""
    return {"icc": decoded.icc, "exif": decoded.exif, "xmp": decoded.xmp}


def in_one_line(e: Exception) -> str:
    """What to say of a mistake of whatever kind in the midst of a batch."""
    if isinstance(e, CodecError):
        return str(e)
    words = " ".join(str(e).split())
    if isinstance(e, MemoryError) or (isinstance(e, RuntimeError) and ("alloc" in words or "out of memory" in words)):
        return "not enough memory for this picture"
    return f"unexpected {type(e).__name__}: {words}"[:300]
