"""``ddpm-codec info`` and ``models``: what files hold, and which models are at hand."""

from __future__ import annotations

import json
import math
import sys

import click

from codec.archive.header import MAGIC as ARCHIVE
from codec.archive.header import is_closed, unpack
from codec.choices import SMALL, usual_model
from codec.errors import CodecError, DamagedFile, UnknownModel
from codec.format.models import open_file

from .archive import figures
from .files import read_input
from .mistakes import fail
from .report import Reporter, counted
from .types import File, Model


@click.command(short_help="Say what files and archives hold.")
@click.argument("files", nargs=-1, required=True, type=File())
@click.option("--model", type=Model(), help="Name or path; default: the known model that the file names.")
@click.option(
    "--json", "as_json", is_flag=True, help="Report as JSON on stdout: all digits; a list if of several files."
)
def info(files, model, as_json):
    """Say what files hold, archives too; archive list names the pictures in them."""
    report, found = Reporter(False, as_json, False), []
    for name in files:
        try:
            found.append(about_file(name, read_input(name), model))
        except CodecError as e:
            report.error(f"{name}: {e}" if name not in str(e) else str(e))
    if as_json and found:
        print(json.dumps(found if len(files) > 1 else found[0], indent=1))
    for fields in () if as_json else found:
        print("\n".join(f"{k:14} {in_short(v)}" for k, v in fields.items() if v is not None))
        if fields is not found[-1]:
            print()
    if report.failed:
        sys.exit(2)


def in_short(value) -> str:
    """A value for people: numbers rounded, yes and no."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def about_file(name: str, data: bytes, model: str | None) -> dict:
    """What a file or an archive says of itself."""
    if data.startswith(ARCHIVE):
        c = unpack(data)
        if c.complete and not is_closed(data):
            raise DamagedFile("the words are damaged (checksum)")
        return {"file": name, "mode": "archive, lossless", **figures(c)}
    i = open_file(data, model).info
    h = i.header
    return {
        "file": name,
        "mode": h.mode,
        "beside": ", ".join(h.extras) or None,
        "model": None if h.stored else i.model,
        "width": h.width,
        "height": h.height,
        "grey": h.grey,
        "seed": h.seed,
        "stride": h.stride,
        "factor": None if i.free or h.stored else h.profile.scale / 256,
        "tilt": None if i.free or h.stored else h.profile.tilt,
        "steps": h.steps,
        "steps_present": i.steps,
        "gamma": i.gamma if math.isfinite(i.gamma) else None,
        "bytes": i.file_bytes,
        "whole_bytes": i.whole_bytes,
        "header_bytes": i.header_bytes,
        "bits_per_dim": 8 * i.file_bytes / i.dims,
        "bits_per_pixel": 8 * i.file_bytes / (h.width * h.height),
        "complete": i.complete,
    }


@click.command()
@click.option("--all", "every", is_flag=True, help="Older ones too, not only the newest of each line.")
@click.option("--json", "as_json", is_flag=True, help="Report as JSON on stdout.")
def models(every, as_json):
    """List the models at hand, the newest of each line."""
    from ddpm.models.store import find_model, line_and_number, read_card, shipped_models

    usual = {SMALL: f"pictures up to {SMALL}x{SMALL}", SMALL + 1: "larger pictures"}
    usual = {find_model(usual_model(side, side)): which for side, which in usual.items()}
    known = shipped_models()
    newest = {line_and_number(name)[0]: name for name in known}.values()
    rows, broken = [], []
    for name, path in known.items():
        if not (every or name in newest):
            continue
        try:
            card = read_card(path)
        except UnknownModel as e:
            broken.append(str(e))
            continue
        row = {"name": name, "fingerprint": card["fingerprint"], "path": str(path), "default_for": usual.get(path)}
        rows.append(row | about(card))
    if as_json:
        print(json.dumps(rows, indent=1))
    else:
        for row in rows:
            print(f"{row['name']:12} {row['fingerprint'][:8]}  {in_words(row)}".rstrip())
    if broken:
        fail("; ".join(broken))


def about(card: dict) -> dict:
    """What a model's card says of its data and its figures: those of the summary, and what bits/dim are of."""
    said = {"trained_on": (card.get("training") or {}).get("data"), **card.get("summary", {})}
    if "bits_per_dim" in said:
        said |= {"of": card.get("bound", {}).get("data"), "pictures": card.get("bound", {}).get("images")}
    return {k: v for k, v in said.items() if v is not None}


def in_words(row: dict) -> str:
    words = [f"default for {row['default_for']}"] if row["default_for"] else []
    if "trained_on" in row:
        words.append(f"trained on {', '.join(row['trained_on'])}")
    if "bits_per_dim" in row:
        pictures = counted(row["pictures"], "picture") if "pictures" in row else ""
        of = ", ".join(w for w in (pictures, row.get("of")) if w)
        words.append(f"{row['bits_per_dim']} bits/dim" + (f" of {of}" if of else ""))
    return "; ".join(words)
