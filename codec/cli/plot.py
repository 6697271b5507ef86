"""``ddpm-codec plot``: the diagrams of measurements, drawn from their JSON alone."""

from __future__ import annotations

import json
from pathlib import Path

import click

from codec.diagrams import Diagram, draw, kind_of, merged
from codec.errors import CodecError

from .console import check_outputs, counted, force_option, make_folder, options, write_output
from .types import File


@click.command(short_help="Draw the diagrams of measurements.")
@click.argument("files", nargs=-1, required=True, type=File())
@click.option("-o", "--output", required=True, type=File(), help="PNG, SVG or WebP file.")
@options(force_option)
def plot(files, output, force):
    """Draw the diagrams in FILES, the JSON of measurements (bench, or bpd --terms --json).

    Diagrams of one title and the same axes are drawn as one, so several measurements can be compared.
    """
    kind = kind_of(output)
    check_outputs([output], files, force)
    found = merged((Path(name).stem, read_diagrams(name)) for name in files)
    if not found:
        raise CodecError("there is no diagram in these files")
    make_folder(output)
    write_output(output, draw(found, kind))
    print(f"{output}: {counted(len(found), 'diagram')}")


def read_result(name: str | Path) -> dict:
    """The JSON of a measurement; CodecError for anything else."""
    try:
        result = json.loads(Path(name).read_bytes())
    except OSError as e:
        raise CodecError(f"{name}: {e.strerror or e}") from None
    except (ValueError, RecursionError):
        raise CodecError(f"{name}: not JSON") from None
    if not isinstance(result, dict):
        raise CodecError(f"{name}: not the JSON of a measurement")
    return result


def read_diagrams(name: str) -> list[Diagram]:
    """Those that the JSON of a measurement holds; CodecError for anything else."""
    listed = read_result(name).get("diagrams", [])
    if not isinstance(listed, list):
        raise CodecError(f"{name}: not the JSON of a measurement")
    try:
        return [Diagram.from_json(value) for value in listed]
    except CodecError as e:
        raise CodecError(f"{name}: {e}") from None
