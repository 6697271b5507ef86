"""``ddpm-codec plot``: the diagrams of measurements, drawn from their JSON alone."""

from __future__ import annotations

from pathlib import Path

import click

from codec.diagrams import draw, kind_of, merged, read_diagrams
from codec.errors import CodecError

from .files import check_outputs, write_output
from .options import force_option, options
from .report import counted
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
    write_output(output, draw(found, kind))
    print(f"{output}: {counted(len(found), 'diagram')}")
