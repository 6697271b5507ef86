"""The results in the README and in docs/results.md, made from the JSON of measurements in bench/results/.

    python -m bench.readme [--check]

A table stands between the lines ``<!-- FILE.json: NAME -->`` and ``<!-- end -->``.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import click

from bench.harness.command import command
from bench.reporting.output import wrote
from bench.reporting.run import presented
from bench.reporting.table import Table, tables_of
from codec.errors import CodecError
from ddpm.files import write_whole

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "docs" / "results.md"]
RESULTS = Path(__file__).parent / "results"
PLACE = re.compile(r"(<!-- (?P<file>[\w.-]+\.json): (?P<name>.+?) -->\n)(?P<old>.*?)(<!-- end -->)", re.DOTALL)


def table(file: str, name: str) -> Table:
    """A table of a stored result, made anew; ValueError if there is none of that name."""
    path = RESULTS / file
    if not path.is_file():
        raise ValueError(f"bench/results/{file} does not exist")
    found = {t.name: t for t in tables_of(presented(json.loads(path.read_text())))}
    if name not in found:
        raise ValueError(f"bench/results/{file} has no table {name!r}; it has {', '.join(found)}")
    return found[name]


def renewed(text: str) -> str:
    """A page with every table as its JSON has it."""
    return PLACE.sub(lambda m: f"{m[1]}\n{table(m['file'], m['name']).markdown()}\n\n{m[5]}", text)


@command()
@click.option("--check", is_flag=True, help="Change nothing; exit code 1 if a page is stale.")
def main(check):
    """Write the results into the pages."""
    stale = []
    for path in PAGES:
        try:
            old = path.read_text()
            new = renewed(old)
        except FileNotFoundError:
            raise CodecError(f"{path} is not there; pages are made in a checkout") from None
        except ValueError as e:
            raise CodecError(f"{path.name}: {e}") from None
        if new != old:
            stale.append(path)
        if not check:
            write_whole(path, new.encode())
    if check and stale:
        sys.exit(f"{', '.join(p.name for p in stale)}: stale; run python -m bench.readme")
    if not check:
        wrote(*stale)


if __name__ == "__main__":
    main()
