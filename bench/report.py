"""A page to look at: measurements with their origin, and progressive decoding under a slider beside other codecs.

    python -m bench.report [RESULT.json ...] [--pictures FOLDER_OR_FILE] [--rate 0.2] [-s STAGES.json] -o report.html

RESULT.json are what measurements of bench write. The page is one file that needs no network. Coding the pictures takes
minutes; with -s that is kept, and the page can be made anew without it. --pictures may be given several times.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from bench.harness.command import POSITIVE, command, writable
from bench.harness.photograph import PICTURE
from bench.reporting.output import save, wrote
from bench.reporting.page import page
from bench.reporting.progression import progressions
from codec import Codec
from codec.diagrams import read_result
from codec.errors import CodecError
from ddpm.files import write_whole


def files_in(sources: Sequence[Path]) -> list[Path]:
    """PNG files of folders, and files; names are what pictures are told apart by."""
    lists = [sorted(p for p in s.iterdir() if p.suffix.lower() == ".png") if s.is_dir() else [s] for s in sources]
    files = [file for found in lists for file in found]
    if len({file.name for file in files}) < len(files):
        raise CodecError("two of the pictures have the same name")
    return files


def coded(files: Sequence[Path], model: str, rate: float, device: str, stages: Path | None) -> dict:
    """The progressions of these pictures: from the file ``stages`` if it is there, else made, and kept in it."""
    asked = {"pictures": [file.name for file in files], "asked_model": model, "rate": rate}
    if stages and stages.exists():
        kept = read_result(stages)
        if kept.get("settings") != asked:
            raise CodecError(f"{stages} is of other pictures, another model or rate; remove it, or name another file")
        return kept
    result = progressions(files, Codec(model, device), rate, asked)
    save(result, stages)
    return result


@command()
@click.argument("results", type=Path, nargs=-1)
@click.option("--pictures", type=Path, multiple=True, default=[PICTURE], help="A picture, or a folder of PNG files.")
@click.option("--model", default="photo", show_default=True)
@click.option("--rate", type=POSITIVE, default=0.2, show_default=True, help="Bits/dim of the whole file.")
@click.option("--device", default="auto", show_default=True)
@click.option("-s", "--stages", type=Path, callback=writable, help="JSON that keeps the coded pictures.")
@click.option("-o", "--output", type=Path, callback=writable, default=Path("report.html"), show_default=True)
def main(results, pictures, model, rate, device, stages, output):
    """Make one page of RESULTS and pictures."""
    found = [read_result(path) for path in results]
    new = stages if stages and not stages.exists() else None
    found.append(coded(files_in(pictures), model, rate, device, stages))
    output.parent.mkdir(parents=True, exist_ok=True)
    write_whole(output, page(found).encode(errors="replace"))
    wrote(output, new)


if __name__ == "__main__":
    main()
