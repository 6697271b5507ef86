"""The command that shows and checks what a model's card says of the pictures that it has seen."""

from __future__ import annotations

import json

import click

from codec.errors import as_mistakes

from .types import File, Model

ROLES = ("training", "source", "excluded", "calibration", "context", "test")


class Slice(click.ParamType):
    """FIRST:END of the pictures, as Python counts; either may be missing."""

    name = "FIRST:END"

    def convert(self, value, param, ctx):
        try:
            first, end = (int(part) if part else None for part in value.split(":"))
        except ValueError:
            self.fail(f"{value!r} is not a part such as 0:300, 300: or -300:")
        return slice(first, end)


@click.command(short_help="What a model has seen, and whether pictures are those.")
@click.argument("model", type=Model())
@click.argument("data", nargs=-1, type=File())
@click.option("--tile", type=click.IntRange(1), help="DATA are contact sheets of squares of this side.")
@click.option("--exclude", multiple=True, metavar="NAME", help="A file name to leave out; repeatable.")
@click.option("--part", type=Slice(), help="Only these of the pictures, in name order.")
@click.option("--json", "as_json", is_flag=True, help="Report as JSON on stdout.")
def card(model, data, tile, exclude, part, as_json):
    """Say what pictures a MODEL was trained, calibrated and tested on, each list by its number and hash.

    With DATA (folders, CIFAR-10 files or, with --tile, contact sheets), say which of the lists its pictures are; exit
    code 1 if none.
    """
    from ddpm.models.load import load_model
    from ddpm.models.store import find_model, read_card, weights_of

    path = find_model(model)
    said = read_card(path) if weights_of(path) else load_model(model).card
    rows = [{"list": role, **entry} for role in ROLES for entry in said.get("data", {}).get(role, ())]
    if not data:
        own = (said.get("training") or {}).get("notes") or {}
        tell(rows, [said.get("data", {}).get("licence"), own.get("note"), said.get("notes")], as_json)
        return
    found = listed(data, tile, exclude, part)
    matches = [row for row in rows if row["sha256"] == found["sha256"]]
    if as_json:
        print(json.dumps({"found": found, "lists": [row["list"] for row in matches]}, indent=1))
    else:
        of = ", ".join(f"{row['list']} ({row['source']})" for row in matches)
        words = f"these are: {of}" if matches else "none of the lists in its card"
        print(f"{found['pictures']:,} pictures, sha256 {found['sha256']}; {words}")
    if not matches:
        raise SystemExit(1)


def tell(rows: list[dict], notes: list[str | None], as_json: bool) -> None:
    if as_json:
        print(json.dumps(rows, indent=1))
        return
    for row in rows:
        more = f"; {row['note']}" if row.get("note") else ""
        print(f"{row['list']:12} {row['pictures']:7,} pictures  {row['sha256']}  {row['source']}{more}")
    for note in filter(None, notes):
        print(note)
    if not rows:
        print("its card names no lists of pictures")


def listed(data, tile, exclude, part) -> dict:
    """The list that all these pictures are together."""
    from ddpm.images import lists
    from ddpm.images.data import load_images

    with as_mistakes():
        pictures = [picture for source in data for picture in load_images(source, tile, exclude)]
    return lists.entry(" ".join(data), map(lists.digest, pictures[part or slice(None)]))
