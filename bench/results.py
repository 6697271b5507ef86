"""Results of measurements shown again, from what was measured alone, and results of one measurement merged.

    python -m bench.results FILE.json ... [-o MERGED.json] [-p OUT.png]

``ddpm-codec plot`` draws the diagrams of several results together; ``python -m bench.readme`` puts the tables into the
README and docs/results.md.
"""

from __future__ import annotations

from pathlib import Path

import click

from bench.harness.command import command
from bench.reporting.output import finish, output_options
from bench.reporting.run import joined
from codec.diagrams import read_result
from codec.errors import CodecError


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
