"""The command line: parse, call, print. Everything else is in codec.api."""

from __future__ import annotations

import json
import math
import sys
from functools import cache
from importlib.metadata import version
from itertools import count

import click
import numpy as np

from codec.archive.header import MAGIC as ARCHIVE
from codec.archive.header import is_closed
from codec.archive.header import unpack as unpack_archive
from codec.choices import SMALL, usual_model
from codec.errors import CodecError, DamagedFile, UnknownModel
from codec.format.container import Header
from codec.images.alpha import split
from codec.images.formats import FORMATS, format_of, picture_bytes
from codec.images.pictures import ADVICE
from codec.lossy.plan import MAX_STEPS
from codec.target import QUALITY, Target
from ddpm.images.pictures import Picture, tell

from .archive import archive, figures
from .batches import carried, in_one_line, skip_existing_option
from .bpd import bpd
from .card import card
from .console import (
    BATCH_PIXELS,
    Reporter,
    common,
    counted,
    device_option,
    force_option,
    give_memory_back,
    make_folder,
    name_outputs,
    options,
    output_among,
    pixels_option,
    read_input,
    share_cores,
    with_folders,
    workers_on,
    write_output,
)
from .mistakes import fail, told_in_lines
from .plot import plot
from .sample import sample
from .streams import finish, prepare
from .train import calibrate, train
from .types import Bytes, File, Model, Rate

SUFFIX = ".ddpm"


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(version("ddpm-codec"), prog_name="ddpm-codec")
def cli():
    """A denoising diffusion model as a progressive image codec."""


cli.add_command(archive)
cli.add_command(bpd)
cli.add_command(calibrate)
cli.add_command(card)
cli.add_command(plot)
cli.add_command(sample)
cli.add_command(train)


@cli.command(short_help="Encode pictures, or folders of them.")
@click.argument("images", nargs=-1, required=True, type=File())
@click.option("-o", "--output", type=File(), help="File, folder, or - for stdout. Default: beside the image.")
@click.option(
    "-q",
    "--quality",
    type=click.FloatRange(0, 100),
    help=f"0 to 100, the end of the lossy code: one noise level for all pictures. Default: {QUALITY}.",
)
@click.option("--rate", type=Rate(), help="Size of the file: 0.3 (bits/dim) or 0.9bpp (bits/pixel).")
@click.option("--bytes", "n_bytes", type=Bytes(), help="Size of the file: 9000, 9kB or 9KiB; it is never larger.")
@click.option("--psnr", type=float, help="The smallest file that reaches so many dB.")
@click.option("--lossless", is_flag=True, help="The very pixels; a prefix still decodes to a coarser picture.")
@click.option("--steps", type=click.IntRange(1), help="So many steps of the chain.")
@click.option(
    "--model", type=Model(), help="Name, line (its newest), or path; by default photo, up to 32x32 pixels cifar10."
)
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, help="Of the shared randomness.")
@click.option("--drop-alpha", is_flag=True, help="Go without the transparency of a picture.")
@click.option("--keep-metadata", is_flag=True, help="Keep EXIF and XMP in the file.")
@click.option(
    "--channel",
    type=click.Choice(["trellis", "ideal"]),
    default="trellis",
    help="ideal: only say what true samples would cost, write nothing; by default all steps.",
)
@click.option("--fp32", is_flag=True, help="Never compute in bfloat16, which is faster on some machines.")
@options(device_option, pixels_option, force_option, skip_existing_option, *common)
def encode(
    images,
    output,
    quality,
    rate,
    n_bytes,
    psnr,
    lossless,
    steps,
    model,
    seed,
    drop_alpha,
    keep_metadata,
    channel,
    fp32,
    device,
    max_pixels,
    force,
    skip_existing,
    quiet,
    as_json,
):
    """Encode pictures, or folders of them; any prefix of the file decodes to a coarser one.

    encode IN.png OUT.ddpm is encode IN.png -o OUT.ddpm: of two names the second is the output if it ends in .ddpm.

    Under torchrun the pictures are shared out, batch by batch; the files are the same.
    """
    asked = {"quality": quality, "bytes": n_bytes, "psnr": psnr, "steps": steps, "lossless": lossless or None}
    given = [rate] * (rate is not None) + [Target(**{k: v}) for k, v in asked.items() if v is not None]
    ideal = channel == "ideal"
    if not given:
        given = [Target(steps=MAX_STEPS) if ideal else Target(quality=QUALITY)]
    if len(given) != 1:
        raise CodecError("say at most one of --quality, --rate, --bytes, --psnr, --steps and --lossless")
    if ideal and (lossless or output is not None):
        raise CodecError("--channel ideal writes no file; go without -o and --lossless")
    if not ideal:
        images, output = output_among(images, output, {SUFFIX})
    images = with_folders(images, say=tell)
    how = {"skip_existing": skip_existing, "quiet": quiet}
    outputs = dict.fromkeys(images, "") if ideal else name_outputs(images, output, SUFFIX, force, **how)
    if as_json and "-" in outputs.values():
        raise CodecError("--json and a file cannot both go to standard output")
    workers = workers_on(device)
    workers.wait()  # before anyone writes what another would find to exist
    report = Reporter(quiet, as_json, "-" in outputs.values(), workers)

    @cache
    def codec_of(name):
        from codec.api import Codec

        return Codec(name, workers.device)

    waiting: dict[tuple, list[tuple[str, Picture]]] = {}
    batches = count()
    rules = {"alpha": "drop" if drop_alpha else "keep" if lossless else "refuse", "metadata": keep_metadata, **ADVICE}
    rules |= {"colours": "stored" if lossless else "srgb", "max_pixels": max_pixels}

    def flush(group):
        if next(batches) % workers.world == workers.rank:
            send(group)

    def send(group):
        names, pictures = zip(*group)
        height, width = pictures[0].array.shape[:2]
        give_memory_back(height * width)
        codec = codec_of(model or usual_model(height, width))  # what is wrong with a model is wrong with all
        try:
            with report.bar(0, names[0] if len(names) == 1 else counted(len(names), "picture")) as bar:
                if given[0].psnr is None:  # then a picture goes through the chain several times
                    bar.total = codec.plan(height, width, split(pictures[0].array)[0].ndim == 2).steps
                files = codec.encode(
                    pictures,
                    given[0],
                    seed=seed,
                    channel=channel,
                    fp32=fp32,
                    max_pixels=max_pixels,
                    progress=bar.update,
                )
        except Exception as e:
            if len(group) > 1:  # the others shall not suffer from what is wrong with one
                return [send([one]) for one in group]
            return report.error(f"{names[0]}: {in_one_line(e)}")
        for name, picture, file in zip(names, pictures, files):
            quality = {
                "psnr": file.psnr if np.isfinite(file.psnr) else None,
                "mse": file.mse,
                "ideal_bits_per_dim": None if file.mode == "stored" else file.ideal_bits / file.dims,
                "seconds": file.seconds,
            }
            shown = f"PSNR {file.psnr:.2f} dB" if np.isfinite(file.psnr) else "exact"
            shown += " after conversion to sRGB" if picture.converted and shown == "exact" else ""
            shown += (
                f", {file.mode}" if file.mode == "stored" or (file.mode.startswith("lossless") and not lossless) else ""
            )
            if ideal:
                report.row(
                    f"{name}: {quality['ideal_bits_per_dim']:.4f} bits/dim over an ideal channel, "
                    f"{shown}, {file.seconds:.1f} s",
                    file=name,
                    **quality,
                )
                continue
            try:
                make_folder(outputs[name])
                write_output(outputs[name], file.data)
            except CodecError as e:
                report.error(str(e))
                continue
            report.row(
                f"{outputs[name]}: {len(file.data)} bytes, {file.bits_per_dim:.4f} bits/dim, "
                f"{8 * len(file.data) / file.pixels:.4f} bits/pixel, {shown}, {file.seconds:.1f} s",
                file=outputs[name],
                bytes=len(file.data),
                bits_per_dim=file.bits_per_dim,
                bits_per_pixel=8 * len(file.data) / file.pixels,
                mode=file.mode,
                **quality,
            )
        return None

    for name in outputs:
        try:
            source = read_input("-") if name == "-" else name
        except CodecError as e:
            report.error(str(e))
            continue
        picture = report.read(source, "standard input" if name == "-" else name, **rules)
        if picture is None:
            continue
        shape = picture.array.shape
        group = waiting.setdefault(shape, [])
        group.append((name, picture))
        if (len(group) + 1) * shape[0] * shape[1] > BATCH_PIXELS or psnr is not None:
            flush(waiting.pop(shape))
    for group in waiting.values():
        flush(group)
    report.close(images if ideal else outputs.values())


@cli.command(short_help="Decode files, or folders of them.")
@click.argument("files", nargs=-1, required=True, type=File())
@click.option(
    "-o",
    "--output",
    type=File(),
    help="File (PNG, or by its suffix), folder, or - for stdout. Default: beside the file.",
)
@click.option("--rate", type=Rate(), help="Use only the first so many bits/dim (or bpp) of each file.")
@click.option("--max-size", type=click.IntRange(1), help="A smaller picture, of at most so many pixels a side; faster.")
@click.option(
    "--recon",
    type=click.Choice(["mean", "flow", "sample"]),
    default="mean",
    show_default=True,
    help="mean: the best PSNR, smooth; flow: the ODE's; sample: sharp, its details are invented.",
)
@click.option("--model", type=Model(), help="Name or path; default: the known model that the file names.")
@options(device_option, pixels_option, force_option, skip_existing_option, *common)
def decode(files, output, rate, max_size, recon, model, device, max_pixels, force, skip_existing, quiet, as_json):
    """Decode files, prefixes of files, or folders of them, to PNG or to what the name of the output ends in.

    That is one of .png, .webp, .tif, .ppm, .pgm, .bmp, which keep every value, or .jpg (quality 95, 4:4:4). decode
    IN.ddpm OUT.png is decode IN.ddpm -o OUT.png: of two names the second is the output if it ends so.
    """
    files, output = output_among(files, output, FORMATS)
    files = with_folders(files, SUFFIX)
    outputs = name_outputs(files, output, ".png", force, skip_existing=skip_existing, quiet=quiet)
    report = Reporter(quiet, as_json, "-" in outputs.values())
    if as_json and "-" in outputs.values():
        raise CodecError("--json and a picture cannot both go to standard output")
    waiting: dict[tuple, list] = {}

    def flush(group):
        names, codecs, contents, infos = zip(*group)
        h = infos[0].header
        give_memory_back(h.height * h.width)
        grey = h.grey
        share = 1 if grey else 3
        rates = rate and (rate.bits_per_dim or rate.bits_per_pixel / share)
        try:
            with report.bar(
                max(i.steps for i in infos), names[0] if len(names) == 1 else counted(len(names), "file")
            ) as bar:
                pictures = codecs[0].decode(
                    contents,
                    recon=recon,
                    rate=rates,
                    max_size=max_size,
                    max_pixels=max_pixels,
                    progress=bar.update,
                )
        except Exception as e:
            if len(group) > 1:  # the others shall not suffer from what is wrong with one
                return [flush([one]) for one in group]
            return report.error(f"{names[0]}: {in_one_line(e)}")
        for name, info, picture in zip(names, infos, pictures):
            if not info.complete:
                of = f" of {info.whole_bytes}" if info.whole_bytes else ""
                report.warn(f"{name}: cut after {info.file_bytes}{of} bytes; shown unverified")
            try:
                make_folder(outputs[name])
                write_output(outputs[name], picture_bytes(picture.array, outputs[name], **carried(picture)))
            except CodecError as e:
                report.error(str(e))
                continue
            if info.complete and info.header.exact and not format_of(outputs[name]).exact:
                report.warn(f"{outputs[name]}: the file is lossless, JPEG is not: these are not the very pixels")
            height, width = picture.array.shape[:2]
            report.row(
                f"{outputs[name]}: {width}x{height}, "
                + ("stored" if info.header.stored else f"{counted(picture.steps, 'step')} of {info.model}"),
                file=outputs[name],
                width=width,
                height=height,
                model=info.model,
                steps=picture.steps,
                complete=info.complete,
            )
        return None

    for name in outputs:
        try:
            data = read_input(name)
            if data.startswith(ARCHIVE):
                raise CodecError("an archive; ddpm-codec archive extract takes its pictures out")
            Header.unpack(data, lambda byte: 1)  # what is no file of ours need not wait for torch
            from codec.api import codec_for

            codec = codec_for(data, model, device)
            info = codec.open(data, max_pixels).info
        except Exception as e:
            report.error(f"{name}: {in_one_line(e)}" if name not in str(e) else str(e))
            continue
        h = info.header
        key = (info.model, h.height, h.width, h.grey)
        group = waiting.setdefault(key, [])
        group.append((name, codec, data, info))
        if (len(group) + 1) * h.height * h.width > BATCH_PIXELS:
            flush(waiting.pop(key))
    for group in waiting.values():
        flush(group)
    report.close(outputs.values())


@cli.command(short_help="Say what files and archives hold.")
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
        c = unpack_archive(data)
        if c.complete and not is_closed(data):
            raise DamagedFile("the words are damaged (checksum)")
        return {"file": name, "mode": "archive, lossless", **figures(c)}
    Header.unpack(data, lambda byte: 1)  # what is no file of ours need not wait for torch
    from codec.api import inspect

    i = inspect(data, model=model)
    h = i.header
    return {
        "file": name,
        "mode": h.mode,
        "beside": ", ".join(h.extras) or None,
        "precision": None if h.stored else "bf16" if h.bf16 else "fp32",
        "model": None if h.stored else i.model,
        "width": h.width,
        "height": h.height,
        "grey": h.grey,
        "seed": h.seed,
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


@cli.command()
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


def main() -> None:
    """Entry point: one line and exit code 2 for whatever the user or a file got wrong."""
    prepare()
    try:
        run()
    except SystemExit as e:
        sys.exit(finish(e.code if isinstance(e.code, int) else 0))
    sys.exit(finish(0))


def run() -> None:
    give_memory_back()
    share_cores()
    with told_in_lines():
        cli.main(standalone_mode=False)
