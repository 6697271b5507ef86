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

from bench.harness.command import command, drawable, writable
from codec.diagrams import Diagram, draw, kind_of, read_result
from codec.errors import CodecError
from ddpm.files import write_whole

HERE = Path(__file__).parent
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

    @property
    def seconds(self) -> float:
        return round(time.monotonic() - self.start, 1)

    def result(self, rows: list[dict], **more) -> dict:
        """The whole JSON, diagrams and tables included."""
        return presented(self.head | {"seconds": self.seconds, "rows": rows} | more)

    def beside(self, stored: dict, rows: list[dict], **versions: str) -> dict:
        """A stored result whose rows of other codecs are of this run: ``rows`` are all of them, ``others`` says so."""
        about = {key: self.head[key] for key in ("device", "cores")} | {"seconds": self.seconds}
        about["versions"] = self.head["versions"] | versions
        return presented(stored | {"others": about, "rows": rows})


def last_name(value):
    """Of a path its last part: where files lie on a machine is nobody's business."""
    return Path(value).name if isinstance(value, Path) or (isinstance(value, str) and os.sep in value) else value


def presented(result: dict) -> dict:
    """The result with diagrams and tables made anew from what was measured."""
    bench = result["bench"]
    if not (isinstance(bench, str) and bench.isidentifier() and (HERE / f"{bench}.py").is_file()):
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


def finish(result: dict, output: Path | None, plot: Path | None = None) -> None:
    """Write all, print what was measured, and say what was written."""
    save(result, output, plot)
    show(result)
    wrote(output, result["diagrams"] and plot)


def wrote(*paths: Path | None) -> None:
    """One line on stderr: tables alone are on stdout."""
    if any(paths):
        click.echo(f"wrote {', '.join(str(p) for p in paths if p)}", err=True)


def output_options(command):
    """-o and -p, the same for all measurements."""
    plot = click.option("-p", "--plot", type=Path, callback=drawable, help="PNG, SVG or WebP of the diagrams.")
    return click.option("-o", "--output", type=Path, callback=writable, help="JSON.")(plot(command))


@command()
@click.argument("files", type=Path, nargs=-1, required=True)
@output_options
def main(files, output, plot):
    """Make diagrams and tables of results anew; several are merged."""
    try:
        result = joined([read_result(path) for path in files])
    except ValueError as e:
        raise CodecError(str(e)) from None
    except (KeyError, TypeError, IndexError, AttributeError):
        raise CodecError(f"{', '.join(map(str, files))}: not the JSON of measurements") from None
    finish(result, output, plot)


if __name__ == "__main__":
    main()
