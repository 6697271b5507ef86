"""What a measurement leaves: JSON that says where it comes from, with its diagrams and tables in it.

    python -m bench.results FILE.json ... [-o MERGED.json] [-p OUT.png]     # shown again, from the rows alone

What was measured is in ``rows``, each for itself, so that results of one kind can be merged. A module of bench has
``present(result) -> (diagrams, tables)``, which looks at nothing but the JSON. ``ddpm-codec plot`` draws the diagrams
of several results together; ``python -m bench.readme`` puts the tables into the README and docs/results.md.
"""

from __future__ import annotations

import json
import os
import platform
import time
from dataclasses import asdict, dataclass
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

import click
import torch

from codec.diagrams import Diagram, draw, kind_of
from codec.errors import CodecError
from codec.pictures import write_whole

LIBRARIES = ("ddpm-codec", "torch", "numpy", "constriction", "pillow")


@dataclass(frozen=True)
class Table:
    """Cells are words; ``name`` is what the README and docs/results.md call it by."""

    name: str
    columns: list[str]
    rows: list[list[str]]

    def markdown(self) -> str:
        lines = [self.columns, ["---"] * len(self.columns), *self.rows]
        return "\n".join("| " + " | ".join(line) + " |" for line in lines)

    def words(self) -> str:
        """For the terminal."""
        lines = [self.columns, *self.rows]
        widths = [max(map(len, column)) for column in zip(*lines)]
        justify = [[c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(r, widths))] for r in lines]
        return "\n".join("  ".join(line).rstrip() for line in justify)


class Run:
    """A measurement under way: what it is of, and the seconds since it began. ``model`` as the settings name it."""

    def __init__(self, bench: str, model=None, **settings):
        self.start = time.monotonic()
        device = getattr(model, "device", torch.device("cpu"))
        self.head = {
            "bench": bench,
            "model": model and model.name,
            "fingerprint": model and model.fingerprint.hex(),
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else f"cpu, {platform.machine()}",
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "versions": {"python": platform.python_version()} | {name: version(name) for name in LIBRARIES},
            "settings": {k: last_name(v) for k, v in settings.items()},
        }

    def result(self, rows: list[dict], **more) -> dict:
        """The whole JSON, diagrams and tables included."""
        return presented(self.head | {"seconds": round(time.monotonic() - self.start, 1), "rows": rows} | more)


def last_name(value):
    """Of a path its last part: where files lie on a machine is nobody's business."""
    return Path(value).name if isinstance(value, Path) or (isinstance(value, str) and os.sep in value) else value


def presented(result: dict) -> dict:
    """The result with diagrams and tables made anew from what was measured."""
    bench = result["bench"]
    if not bench.isidentifier():
        raise ValueError(f"{bench!r} is no measurement of ours")
    diagrams, tables = import_module(f"bench.{bench}").present(result)
    return result | {"diagrams": [d.to_json() for d in diagrams], "tables": [asdict(t) for t in tables]}


def joined(results: list[dict]) -> dict:
    """Results of one measurement and model, made at different times, as one; ValueError if they are not."""
    first = results[0]
    if any(r[key] != first[key] for r in results for key in ("bench", "fingerprint")):
        raise ValueError("results of different measurements or models cannot be merged")
    rows, seconds = [row for r in results for row in r["rows"]], sum(r["seconds"] for r in results)
    return presented(first | {"rows": rows, "seconds": seconds})


def tables_of(result: dict) -> list[Table]:
    return [Table(**t) for t in result["tables"]]


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


def drawable(context, parameter, path: Path | None) -> Path | None:
    """Said before hours are spent on it."""
    try:
        return path and kind_of(path) and path
    except CodecError as e:
        raise click.BadParameter(str(e)) from None


def output_options(command):
    """-o and -p, the same for all measurements."""
    plot = click.option("-p", "--plot", type=Path, callback=drawable, help="PNG, SVG or WebP of the diagrams.")
    return click.option("-o", "--output", type=Path, help="JSON.")(plot(command))


@click.command()
@click.argument("files", type=Path, nargs=-1, required=True)
@output_options
def main(files, output, plot):
    """Make diagrams and tables of results anew; several are merged."""
    result = joined([json.loads(path.read_text()) for path in files])
    save(result, output, plot)
    show(result)


if __name__ == "__main__":
    main()
