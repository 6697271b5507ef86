"""Files across machines: written under each of several arithmetics, read under each, and every decoded byte compared.

    python -m bench.portability DATA [DATA ...] [--model cifar10,photo] [--tile 32,0] [--images 40,6]
        [--lossless 12,6] [--crop 32,64] -o OUT.json

Each DATA is coded with its own model: lossy files of --rate, lossless files, and an archive. What stands in for other
machines are the settings of machines.py; each has a process of its own (harness/elsewhere.py). A file that several
wrote alike is read once by each. Of some lossy files also what a prefix shows, the flow, a sample and a smaller picture
are compared. Whoever reads shall show what the writer itself decodes, and of lossless files and archives the pixels
that were written. Whether writers make the same files is counted beside it; lossy ones come of searches by floats.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
from tqdm import tqdm

from bench.harness import elsewhere
from bench.harness.command import COUNT, POSITIVE, command, folder, listed, writable
from bench.harness.parts import Parts
from bench.harness.pick import draw
from bench.reporting.output import finish
from bench.reporting.run import Run
from bench.reporting.table import Table
from codec.diagrams import Diagram
from ddpm.models.load import load_model

from .machines import INSTRUCTIONS, THREADS

ONE = THREADS["one thread"]
MACHINES = {
    **THREADS,
    **{name: {**settings, **ONE} for name, settings in INSTRUCTIONS.items() if settings},
    "no oneDNN": {elsewhere.WITHOUT_ONEDNN: "1", **ONE},
}


@dataclass(frozen=True)
class Set:
    """Pictures (H, W, 3) uint8, the name of the model that codes them, and how many of them are lossless too."""

    model: str
    pictures: list[np.ndarray]
    lossless: int


def on(machine: str, what: str, place: Path) -> dict:
    """What a process ``elsewhere`` answers."""
    line = [sys.executable, "-m", "bench.harness.elsewhere", what, str(place)]
    done = subprocess.run(line, env={**os.environ, **MACHINES[machine]}, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def measure(
    sets: list[Set], machines: list[str], rate: float, *, some: int = 6, together: int = 1, keep: Path | None = None
) -> dict:
    """``rows`` (``compared``) for each set, kind of file and view, and of each machine what it computes with.

    rate: of lossy files, bits/dim. some: files of each set of which more than the whole is decoded. together: machines
    at a time. keep: a folder for what is done, from which the same call goes on.
    """
    task = {"models": [s.model for s in sets], "lossless": [s.lossless for s in sets], "rate": rate}
    with tempfile.TemporaryDirectory() as temporary:
        place = keep or Path(temporary)
        pictures = [[elsewhere.digest(p) for p in s.pictures] for s in sets]
        parts = Parts(keep, task | {"machines": machines, "some": some, "pictures": pictures})
        (place / "task.json").write_text(json.dumps(task))
        for i, s in enumerate(sets):
            np.savez(place / f"{i}.npz", *s.pictures)

        def each(what: str) -> dict[str, dict]:
            known = lambda name: f"{what}, {name}" in parts.answers  # noqa: E731
            with ThreadPoolExecutor(together) as pool:
                running = {pool.submit(on, name, what, place): name for name in machines if not known(name)}
                for done in tqdm(as_completed(running), what, len(running), disable=None):
                    parts(f"{what}, {running[done]}", done.result)
            return {name: parts.answers[f"{what}, {name}"] for name in machines}

        written = each("write")
        made = {name: {(w["set"], w["kind"]): w["files"] for w in written[name]["found"]} for name in machines}
        (place / "asked.json").write_text(json.dumps(asked(list(made.values()), some)))
        seen = each("read")
        sizes = {file: (place / file).stat().st_size for of in made.values() for names in of.values() for file in names}
    views = [{(r["set"], r["kind"], r["view"]): r["shown"] for r in seen[name]["found"]} for name in machines]
    rows = []
    for i, kind, view in views[0]:
        first = len(pictures[i]) if view == "whole" else some
        files, shown = [of[i, kind][:first] for of in made.values()], [of[i, kind, view] for of in views]
        head = {"model": sets[i].model, "kind": kind, "view": view}
        head["bytes"] = sum(sizes[file] for of in files for file in of) // len(files)
        true = pictures[i][: sets[i].lossless] if view == "whole" and kind != "lossy" else None
        rows.append(head | compared(files, shown, true))
    return {"rows": rows, "machines": {name: seen[name]["machine"] for name in machines}}


def asked(made: list[dict], some: int) -> list[dict]:
    """Of each set and kind the files of all writers, each once; ``made``: by set and kind their names, in order."""
    once = lambda of: list(dict.fromkeys(file for names in of for file in names))  # noqa: E731
    return [
        {"set": i, "kind": kind, "files": once(m[i, kind] for m in made), "some": once(m[i, kind][:some] for m in made)}
        for i, kind in made[0]
    ]


def compared(files: list[list[str]], shown: list[dict[str, list]], true: list[str] | None) -> dict:
    """Counts of pictures, and of files that two writers made alike.

    files: of each writer their names, picture by picture. shown: of each reader what it sees in each, hashes, or None
    where it cannot read. true: hashes of what was written, where that shall come back. ``alike`` and ``exact`` are by
    writer, then reader; ``same`` by two writers.
    """
    looks = [[[picture for file in of for picture in s[file]] for s in shown] for of in files]
    count = lambda a, b: sum(p is not None and p == q for p, q in zip(a, b, strict=True))  # noqa: E731
    return {
        "pictures": len(looks[0][0]),
        "files": len(files[0]),
        "distinct": len({file for of in files for file in of}),
        "alike": [[count(look, of[w]) for look in of] for w, of in enumerate(looks)],
        "exact": None if true is None else [[count(look, true) for look in of] for of in looks],
        "same": [[count(a, b) for b in files] for a in files],
    }


def present(result: dict) -> tuple[list[Diagram], list[Table]]:
    """Tables of who wrote and who read, of what was compared, and of the machines; nothing to draw."""
    rows, names = result["rows"], list(result["machines"])
    every, wholes = sum(r["pictures"] for r in rows), [r for r in rows if r["view"] == "whole"]
    alike = np.sum([r["alike"] for r in rows], 0).tolist()
    kinds = {k: np.sum([r["same"] for r in wholes if r["kind"] == k], 0) for k in {r["kind"]: 0 for r in wholes}}
    many = {kind: sum(r["files"] for r in wholes if r["kind"] == kind) for kind in kinds}
    same = [[", ".join(str(of[a][b]) for of in kinds.values()) for b in range(len(names))] for a in range(len(names))]
    both = ", ".join(f"{n} {'archives' if kind == 'archive' else kind}" for kind, n in many.items())
    across = ["written (down), read (across)", *names]
    told = {"": "{0}", "convolutions": "{1[convolutions]}", "torch": "{1[torch]}"}
    return [], [
        Table("decoded alike", across, [[n, *(f"{k:,} of {every:,}" for k in line)] for n, line in zip(names, alike)]),
        Table("made alike", [f"{both} by both", *names], [[n, *line] for n, line in zip(names, same)]),
        Table("what was compared", list(COLUMNS), [said(r) for r in rows]),
        Table("machines", list(told), [[c.format(n, m) for c in told.values()] for n, m in result["machines"].items()]),
    ]


COLUMNS = ("model", "files", "of each writer", "distinct", "bytes", "shown as to the writer", "the very pixels")


def said(row: dict) -> list[str]:
    """A line of what was compared: over all pairs of machines, so many pictures of so many."""
    of = f"{row['pictures'] * len(row['alike']) ** 2:,}"
    alike, exact = (f"{np.sum(row[key]):,} of {of}" if row[key] else "" for key in ("alike", "exact"))
    what = row["kind"] if row["view"] == "whole" else f"{row['kind']}, {row['view']}"
    return [row["model"], what, str(row["files"]), str(row["distinct"]), f"{row['bytes']:,}", alike, exact]


@command()
@click.argument("data", nargs=-1, required=True)
@click.option(
    "--model", "models", default="cifar10,photo", show_default=True, callback=listed(str), help="Of each DATA."
)
@click.option("--tile", "tiles", default="32,0", show_default=True, callback=listed(int, 0), help="0: no sheet.")
@click.option("--images", default="40,6", show_default=True, callback=listed(int, 1))
@click.option("--lossless", default="12,6", show_default=True, callback=listed(int, 1), help="So many of them, too.")
@click.option("--crop", "crops", default="32,64", show_default=True, callback=listed(int, 1))
@click.option("--rate", type=POSITIVE, default=0.5, show_default=True, help="Of lossy files, bits/dim.")
@click.option("--some", type=COUNT, default=6, show_default=True, help="Files of which more than the whole is seen.")
@click.option("--machine", "machines", multiple=True, type=click.Choice(list(MACHINES)), help="Default: all.")
@click.option("--together", type=COUNT, default=1, show_default=True, help="Machines at a time.")
@click.option("--keep", type=Path, callback=folder, help="Folder for what is done; the same command goes on from it.")
@click.option("-o", "--output", type=Path, callback=writable, help="JSON.")
def main(data, models, tiles, images, lossless, crops, rate, some, machines, together, keep, output):
    """Compare what files show, and files, across machines."""
    if len(data) > min(map(len, (models, tiles, images, lossless, crops))):
        raise click.UsageError("each DATA needs a model, a tile, a number of pictures and of lossless ones, and a crop")
    drawn = [draw(d, tile or None, n, crop) for d, tile, n, crop in zip(data, tiles, images, crops)]
    loaded = [load_model(name, "cpu") for name in models[: len(data)]]
    if keep:
        keep.mkdir(parents=True, exist_ok=True)
    sets = [Set(m.name, pictures, min(n, len(pictures))) for m, pictures, n in zip(loaded, drawn, lossless)]
    settings = {"tile": tiles, "images": images, "lossless": lossless, "crop": crops, "rate": rate, "some": some}
    run = Run("portability", None, data=[Path(d).name for d in data], **settings)
    found = measure(sets, list(machines) or list(MACHINES), rate, some=some, together=together, keep=keep)
    prints = {m.name: m.fingerprint.hex() for m in loaded}
    return finish(run.result(found["rows"], machines=found["machines"], models=prints), output)


if __name__ == "__main__":
    main()
