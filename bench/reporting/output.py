"""What a measurement writes and says: its JSON, its diagrams as a picture, its tables in the terminal."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import click

from bench.harness.command import drawable, writable
from codec.diagrams import Diagram, draw, kind_of
from ddpm.files import write_whole

from .run import Run
from .table import tables_of


def output_options(command):
    """-o and -p, the same for all measurements."""
    plot = click.option("-p", "--plot", type=Path, callback=drawable, help="PNG, SVG or WebP of the diagrams.")
    return click.option("-o", "--output", type=Path, callback=writable, help="JSON.")(plot(command))


def finish(result: dict, output: Path | None, plot: Path | None = None) -> None:
    """Write all, print what was measured, and say what was written."""
    save(result, output, plot)
    show(result)
    wrote(output, result["diagrams"] and plot)


def finish_parts(run: Run, parts: Iterable[list[dict]], output: Path | None, plot: Path | None) -> None:
    """The same of rows that come in parts: what there is of them is kept in the JSON after each."""
    rows = []
    for part in parts:
        rows += part
        result = run.result(rows)
        save(result, output)
    finish(result, output, plot)


def save(result: dict, output: Path | None, plot: Path | None = None) -> None:
    """Write the JSON, and the diagrams as a picture."""
    if output:
        output.parent.mkdir(parents=True, exist_ok=True)
        write_whole(output, (json.dumps(result, indent=1) + "\n").encode())
    if plot and not result["diagrams"]:
        click.echo(f"warning: {plot} is not written, there is no diagram to draw", err=True)
    elif plot:
        plot.parent.mkdir(parents=True, exist_ok=True)
        write_whole(plot, draw([Diagram.from_json(d) for d in result["diagrams"]], kind_of(plot)))


def show(result: dict) -> None:
    """Print what was measured and its tables."""
    about = [result["model"], result["device"], f"{result['threads']} threads", f"{result['seconds']:.0f} s"]
    print(f"{result['bench']}: {', '.join(filter(None, about))}")
    for table in tables_of(result):
        print(f"\n{table.name}\n{table.words()}")


def wrote(*paths: Path | None) -> None:
    """One line on stderr: tables alone are on stdout."""
    if any(paths):
        click.echo(f"wrote {', '.join(str(p) for p in paths if p)}", err=True)
