"""``ddpm-codec archive``: many pictures in one file, lossless, at the length of the model's bound."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from pathlib import Path, PurePosixPath

import click
import numpy as np

import codec.archive
from codec.archive.header import ArchiveHeader, known_model, unpack
from codec.archive.patches import CODE, kinds
from codec.device import pick_device
from codec.errors import CodecError, naming
from codec.images.alpha import split
from codec.images.pictures import ADVICE, load_picture, png_bytes

from .files import check_outputs, check_sources, only_one, read_input, read_model, say_left, write_output
from .options import (
    common,
    device_option,
    force_option,
    model_option,
    options,
    pixels_option,
    skip_bad_option,
    skip_existing_option,
)
from .report import counted
from .types import File, Folder, Model, Steps

known_option = click.option(
    "--model", "name", type=Model(), help="Name or path; default: the known model that the archive names."
)


@click.group()
def archive():
    """Many pictures in one lossless file.

    They are coded together, at the length of the model's bound (bits-back): smaller than files of their own, but a cut
    or damaged archive gives nothing.
    """


@archive.command("create", short_help="Write an archive of pictures.")
@click.argument("out", type=File())
@click.argument("data", nargs=-1, required=True, type=File())
@model_option
@click.option("--steps", type=Steps("codec"), default="codec", show_default=True, help="Or T levels of the schedule.")
@click.option("--tile", type=click.IntRange(1), help="DATA are contact sheets of squares of this side.")
@click.option("--drop-alpha", is_flag=True, help="Go without the transparency of a picture.")
@options(skip_bad_option, device_option, pixels_option, force_option, *common)
def create_command(out, data, name, steps, tile, drop_alpha, skip_bad, device, max_pixels, force, quiet, as_json):
    """Write the archive OUT of DATA: pictures, folders of them, CIFAR-10 files or (with --tile) contact sheets."""
    if as_json and out == "-":
        raise CodecError("--json and an archive cannot both go to standard output")
    check_sources(data)
    check_outputs([out], [p for d in map(Path, data) for p in (d.rglob("*") if d.is_dir() else [d])], force)
    pictures = read_sources([Path(d) for d in data], tile, drop_alpha, max_pixels, skip_bad)
    model, start = read_model(name, pick_device(device)), time.monotonic()
    steps = CODE if steps == "codec" else steps
    colours = [split(p)[0] for _, p in pictures]
    found = kinds([p.shape[:2] for p in colours], [p.ndim == 2 for p in colours], steps)
    with bar(quiet, codec.archive.evaluations(model, found, steps)) as progress:
        made = codec.archive.create(pictures, model, steps, max_pixels=max_pixels, progress=progress.update)
    write_output(out, made)
    c = unpack(made)
    fields = figures(c) | {"archive": out, "seconds": round(time.monotonic() - start, 1)}
    tell(f"{out}: {words(c)}, {fields['seconds']} s", fields, quiet, as_json, out == "-")


@archive.command("extract")
@click.argument("file", type=File())
@click.option("-o", "--output", type=Folder(), help="Folder. Default: FILE without its suffix.")
@known_option
@options(device_option, pixels_option, force_option, skip_existing_option, *common)
def extract_command(file, output, name, device, max_pixels, force, skip_existing, quiet, as_json):
    """Write the pictures of an archive as PNG files, each checked."""
    only_one(force, skip_existing)
    if file == "-" and not output:
        raise CodecError("say with -o into which folder the pictures go")
    data, c = read(file)
    folder = Path(output or Path(file).with_suffix(""))
    if folder.exists() and not folder.is_dir():
        raise CodecError(f"{folder} is a file, no folder; say -o")
    advice = "say -o to name another folder, or --force to replace it"
    existing = check_outputs((str(folder / n) for n in c.names), [file], force, advice, skip_existing)
    if any(not (folder / n).resolve().is_relative_to(folder.resolve()) for n in c.names):
        raise CodecError(f"{folder} has links that lead outside; say -o to name another folder")
    model = read_model(name or known_model(c), pick_device(device))
    start, done = time.monotonic(), 0
    with bar(quiet, codec.archive.evaluations(model, c.kinds, c.steps)) as progress:
        try:
            wanted = codec.archive.extract(data, model, max_pixels=max_pixels, progress=progress.update)
            for picture, array in wanted if len(existing) < len(c.names) else ():
                if str(folder / picture) in existing:
                    continue
                write_output(str(folder / picture), png_bytes(array))
                done += 1
        except CodecError as e:
            raise CodecError(f"{file}: {e}" + (f" ({counted(done, 'picture')} written)" if done else "")) from None
    say_left(len(existing), quiet)
    fields = figures(c) | {"archive": file, "folder": str(folder), "seconds": round(time.monotonic() - start, 1)}
    tell(f"{folder}: {counted(done, 'picture')}, {fields['seconds']} s", fields, quiet, as_json)


@archive.command("list")
@click.argument("file", type=File())
@click.option("--json", "as_json", is_flag=True, help="Report as JSON on stdout.")
def list_command(file, as_json):
    """Say what an archive holds; its end may be missing."""
    c = checked(file, read_input(file))
    rows = [
        {"name": n, "width": w, "height": h, "grey": g, "alpha": i in c.alpha, "crc32": f"{crc:08x}"}
        for i, (n, (h, w), g, crc) in enumerate(zip(c.names, c.sizes, c.grey, c.crcs))
    ]
    if as_json:
        print(json.dumps({"archive": file, **figures(c), "files": rows}, indent=1))
        return
    for row in rows:
        kind = ("grey" if row["grey"] else "    ") + (" alpha" if row["alpha"] else "      ")
        print(f"{row['width']:6}x{row['height']:<6} {kind} {row['name']}")
    print(f"{file}: {words(c)}" + ("" if c.complete else f"; cut after {c.file_bytes} of {c.whole_bytes} bytes"))


@archive.command("verify", short_help="Decode in memory and compare the checksums.")
@click.argument("file", type=File())
@known_option
@options(device_option, pixels_option, *common)
def verify_command(file, name, device, max_pixels, quiet, as_json):
    """Decode an archive in memory and compare the checksums of all pictures."""
    data, c = read(file)
    model = read_model(name or known_model(c), pick_device(device))
    start = time.monotonic()
    with bar(quiet, codec.archive.evaluations(model, c.kinds, c.steps)) as progress:
        try:
            for _ in codec.archive.extract(data, model, max_pixels=max_pixels, progress=progress.update):
                pass
        except CodecError as e:
            raise CodecError(f"{file}: {e}") from None
    fields = figures(c) | {"archive": file, "seconds": round(time.monotonic() - start, 1)}
    n = len(c.names)
    kept = "its picture is as it" if n == 1 else f"all {n:,} pictures are as they"
    tell(f"{file}: {kept} went in, {fields['seconds']} s", fields, quiet, as_json)


def read_sources(sources, tile, drop_alpha: bool, max_pixels: int, skip_bad=False) -> list[tuple[str, np.ndarray]]:
    """(name in the archive, picture) of all arguments; CodecError names all that cannot be read, or they are left out.

    Below a folder names keep their path. The suffix becomes .png; of pictures that differ in it alone, .jpg.png.
    """
    from ddpm.errors import BadPictures
    from ddpm.images.data import load_images
    from ddpm.images.pictures import tell

    entries, out, bad, converted = [], [], [], 0
    for source in sources:
        try:
            entries += listed(source, tile)
        except CodecError as e:
            bad += e.lines
    for path, name in zip([path for path, _ in entries], archive_names(entries)):
        try:
            if name is None:
                many = load_images(path, tile, skip_bad=skip_bad)
                out += [(f"{path.resolve().stem}/{i:05d}.png", np.ascontiguousarray(a)) for i, a in enumerate(many)]
                continue
            alpha = "drop" if drop_alpha else "keep"
            picture = load_picture(path, alpha=alpha, max_pixels=max_pixels, **ADVICE)
        except CodecError as e:
            bad += e.lines
            continue
        for line in picture.warnings:
            tell(line)
        converted += picture.converted
        out.append((name, picture.array))
    if bad and (not skip_bad or not out):
        raise BadPictures(bad)
    for line in bad:
        tell(f"left out: {line}")
    if converted:
        tell(f"the colours of {converted} picture{'s' if converted > 1 else ''} have been converted to sRGB")
    return out


def archive_names(entries: list[tuple[Path, str | None]]) -> list[str | None]:
    """What pictures are called in the archive. CodecError for two of one name."""
    plain = [name and PurePosixPath(name).with_suffix(".png").as_posix() for _, name in entries]
    count = Counter(plain)
    names = [
        own if not name or count[own] == 1 or own == name else f"{name}.png" for own, (_, name) in zip(plain, entries)
    ]
    seen: dict[str, Path] = {}
    for name, (path, _) in zip(names, entries):
        if name and (other := seen.setdefault(name, path)) is not path:
            raise CodecError(f"{other} and {path} would have the same name in the archive, {name}")
    return names


def listed(source: Path, tile: int | None) -> list[tuple[Path, str | None]]:
    """Files of an argument, and their names below it; None for one that holds many pictures."""
    from ddpm.images.pictures import picture_files, suffixes, tell

    with naming(source):
        official = source.is_dir() and any(source.rglob("data_batch_*"))
        source.stat()
        if tile or official or (source.is_file() and source.suffix.lower() not in suffixes()):
            return [(source, None)]
        files = picture_files(source, tell) if source.is_dir() else [source]
    if not files:
        raise CodecError(f"no images in {source}")
    base = source if source.is_dir() else source.parent
    return [(p, p.relative_to(base).as_posix()) for p in files]


def checked(file: str, data: bytes) -> ArchiveHeader:
    try:
        return unpack(data)
    except CodecError as e:
        raise CodecError(f"{file}: {e}") from None


def read(file: str) -> tuple[bytes, ArchiveHeader]:
    """An archive's bytes and its header."""
    data = read_input(file)
    return data, checked(file, data)


def bar(quiet: bool, total: int):
    from tqdm import tqdm

    return tqdm(total=total, desc="archive", unit="evaluation", leave=False, disable=True if quiet else None)


def figures(c: ArchiveHeader) -> dict:
    """What can be told of an archive as a whole."""
    return {
        "pictures": len(c.names),
        "stored": c.stored,
        "dims": c.dims,
        "bytes": c.file_bytes,
        "table_bytes": c.start,
        "bits_per_dim": 8 * c.file_bytes / c.dims,
        "model": c.model,
        "steps": c.steps or "codec",
        "complete": c.complete,
    }


def words(c: ArchiveHeader) -> str:
    f, pictures = figures(c), counted(len(c.names), "picture")
    how = f"T = {c.steps}" if c.steps else "steps of the code"
    return f"{pictures}, {f['bytes']} bytes, {f['bits_per_dim']:.4f} bits/dim, {c.model}, {how}"


def tell(line: str, fields: dict, quiet: bool, as_json: bool, to_stdout: bool = False) -> None:
    """Words go to stderr where stdout carries the archive."""
    if as_json:
        print(json.dumps(fields, indent=1))
    elif not quiet:
        print(line, file=sys.stderr if to_stdout else sys.stdout)
