"""Lossless code lengths: files and archives of ours beside their bounds, classical codecs, and what others published.

Rows of bench.lossless (one file each) and bench.archive (all in one) go together:

    python -m bench.results lossless.json archive.json archive-25.json ... -o lengths.json -p lengths.png

A row: code ("one file each", "archive", or the name of another codec), bits_per_dim of whole files over images, and of
ours steps ("codec" or T), ``looks``, the evaluations of the network at each picture, bound, and seconds per picture;
``skip``, so many pictures of the set come before them. Or code "growth": bytes of an archive of the first so many
images, and of single files of them.
"""

from __future__ import annotations

import click

from bench.baselines.literature import read
from codec.diagrams import OURS, Axis, Diagram, Series

from .run import pooled
from .table import Table

SINGLE, ARCHIVE, GROWTH = "one file each", "archive", "growth"

published_option = click.option(
    "--published",
    type=click.Choice(sorted(set(read("lossless")) - {"about"})),
    help="DATA is that test set: list what others published about it.",
)


def present(result: dict) -> tuple[list[Diagram], list[Table]]:
    """The diagram of bits/dim over T, and the tables of code lengths, of coders alone, and of published figures."""
    grown = sorted((r for r in result["rows"] if r["code"] == GROWTH), key=lambda r: r["images"])
    rows = distinct([r for r in result["rows"] if r["code"] != GROWTH])
    ours = [r for r in rows if r["code"] in (SINGLE, ARCHIVE)]
    tables = [
        Table(
            "code lengths",
            ["", "pictures", "bits/dim", "bound", "excess", "seconds per picture, to code and to decode"],
            [[label(r), f"{r['images']:,}", f"{r['bits_per_dim']:.3f}", *excess(r), seconds(r)] for r in rows],
        )
    ]
    archives = [r for r in ours if r["code"] == ARCHIVE and "coder" in r]
    if archives:
        columns = ["", "pictures", "on the stack", "bound", "difference", "the coder alone", "ns per value and level"]
        tables.append(Table("bits-back", columns, [[label(r), f"{r['images']:,}", *stack(r)] for r in archives]))
    published = read("lossless").get(result["settings"].get("published"), [])
    if published:
        lines = [[f"{p['name']} ({p['source']})", p["what"], p["bits_per_dim"]] for p in published]
        tables.append(Table("published", ["", "", "bits/dim"], lines))
    diagrams = [over_T(rows)] if ours else []
    if grown:
        columns = {"pictures": "{images}", "bytes of an archive": "{archive:,}", "of files of their own": "{single:,}"}
        tables.append(Table.of("growth", grown, columns))
        diagrams.append(over_pictures(grown))
    return diagrams, [t for t in tables if t.rows]


def distinct(rows: list[dict]) -> list[dict]:
    """One row for each code, T and number of pictures: ours first, archives by T; then others by their length.

    Rows whose pictures follow on each other (``skip``) are one.
    """
    ending: dict[tuple, dict] = {}
    for r in sorted(rows, key=lambda r: r.get("skip", 0)):
        which, skip = (r["code"], r.get("steps")), r.get("skip", 0)
        end = (*which, skip + r["images"])
        if before := ending.pop((*which, skip), None):
            r = pooled([before, r]) | ({"looks": max(before["looks"], r["looks"])} if "looks" in r else {})
        ending[end] = r
    found = list(ending.values())
    ours = [r for r in found if r["code"] in (SINGLE, ARCHIVE)]
    others = [r for r in found if r not in ours]
    order = lambda r: (r["code"] == ARCHIVE, r["steps"] != "codec", r["looks"], -r["images"])  # noqa: E731
    return sorted(ours, key=order) + sorted(others, key=lambda r: (r["bits_per_dim"], r["images"]))


def label(r: dict) -> str:
    if r["code"] not in (SINGLE, ARCHIVE):
        return r["code"]
    how = f"the codec's {r['looks']} steps" if r["steps"] == "codec" else f"T = {r['steps']}"
    return f"{OURS}, {r['code']}, {how}"


def excess(r: dict) -> list[str]:
    """The bound, and by how much the whole file is longer."""
    if r.get("bound") is None:
        return ["", ""]
    return [f"{r['bound']:.3f}", f"{r['bits_per_dim'] / r['bound'] - 1:.1%}"]


def seconds(r: dict) -> str:
    return ", ".join(f"{r[k]:.2f}" for k in ("encode_s", "decode_s") if r.get(k) is not None)


def stack(r: dict) -> list[str]:
    bound = [f"{r['bound']:.4f}", f"{r['net'] - r['bound']:+.4f}"] if r.get("bound") is not None else ["", ""]
    return [f"{r['net']:.4f}", *bound, f"{r['coder']:.4f}", f"{sum(r['coder_ns']):.0f}"]


def over_pictures(grown: list[dict]) -> Diagram:
    """Bytes per picture of an archive and of single files, over the number of pictures."""
    series = [
        Series(f"{OURS}, {name}", [r["images"] for r in grown], [r[key] / r["images"] for r in grown], "files")
        for name, key in ((ARCHIVE, "archive"), (SINGLE, "single"))
    ]
    return Diagram("archives grow", Axis("pictures", "log"), Axis("bytes per picture"), series)


def over_T(rows: list[dict]) -> Diagram:
    """Bits/dim over the evaluations of the network; other codecs, which have none, as lines across."""
    ours = [r for r in rows if r["code"] in (SINGLE, ARCHIVE)]
    ends = [min((r["looks"] for r in ours), default=10), max((r["looks"] for r in ours), default=100)]
    series = []
    for code in (ARCHIVE, SINGLE):
        found = sorted((r["looks"], r["bits_per_dim"], r.get("bound")) for r in ours if r["code"] == code)
        if found:
            x, y, bounds = map(list, zip(*found))
            series.append(Series(f"{OURS}, {code}", x, y, "files"))
            known = [(a, b) for a, b in zip(x, bounds) if b is not None]
            if known and code == ARCHIVE:
                series.append(Series("its bound", *map(list, zip(*known)), "ideal"))
    series += [Series(r["code"], ends, [r["bits_per_dim"]] * 2) for r in rows if r not in ours]
    return Diagram("lossless code lengths", Axis("looks of the network (T)", "log"), Axis("bits/dim"), series)
