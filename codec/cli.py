"""The command line: parse, call, print. Everything else is in codec.api."""

from __future__ import annotations

import json
import sys
from functools import cache
from importlib.metadata import version
from itertools import count

import click
import numpy as np

from .alpha import split
from .cli_archive import archive
from .cli_bpd import bpd
from .cli_card import card
from .cli_plot import plot
from .cli_sample import sample
from .cli_train import calibrate, train
from .console import (
    BATCH_PIXELS,
    Reporter,
    common,
    device_option,
    force_option,
    give_memory_back,
    make_folder,
    name_outputs,
    options,
    pixels_option,
    read_input,
    share_cores,
    trouble,
    with_folders,
    write_output,
)
from .errors import CodecError
from .pictures import png_bytes, read_picture
from .plan import MAX_STEPS
from .target import Target

SUFFIX = ".ddpm"


class Rate(click.ParamType):
    """``0.3`` or ``0.3bpd`` (bits/dim), or ``0.9bpp`` (bits/pixel)."""

    name = "rate"

    def convert(self, value, param, ctx):
        number, unit = value.lower().strip(), "bits_per_dim"
        for suffix, meaning in (("bpp", "bits_per_pixel"), ("bpd", "bits_per_dim")):
            if number.endswith(suffix):
                number, unit = number[: -len(suffix)], meaning
        try:
            return Target(**{unit: float(number)})
        except ValueError:
            self.fail(f"{value!r} is not a rate such as 0.3 (bits/dim) or 0.9bpp (bits/pixel)")


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
@click.argument("images", nargs=-1, required=True)
@click.option("-o", "--output", help="File, folder, or - for stdout. Default: beside the image.")
@click.option("--rate", type=Rate(), help="Size of the file: 0.3 (bits/dim) or 0.9bpp (bits/pixel).")
@click.option("--bytes", "n_bytes", type=int, help="Size of the file in bytes; it is never larger.")
@click.option("--psnr", type=float, help="The smallest file that reaches so many dB.")
@click.option("--lossless", is_flag=True, help="The very pixels; a prefix still decodes to a coarser picture.")
@click.option("--steps", type=click.IntRange(1), help="So many steps of the chain: one noise level for all pictures.")
@click.option("--model", help="Name, line (its newest), or path; by default photo, up to 32x32 pixels cifar10.")
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, help="Of the shared randomness.")
@click.option("--drop-alpha", is_flag=True, help="Go without the transparency of a picture.")
@click.option(
    "--channel",
    type=click.Choice(["trellis", "ideal"]),
    default="trellis",
    help="ideal: only say what true samples would cost, write nothing; by default all steps.",
)
@click.option("--fp32", is_flag=True, help="Never compute in bfloat16, which is faster on some machines.")
@options(device_option, pixels_option, force_option, *common)
def encode(
    images,
    output,
    rate,
    n_bytes,
    psnr,
    lossless,
    steps,
    model,
    seed,
    drop_alpha,
    channel,
    fp32,
    device,
    max_pixels,
    force,
    quiet,
    as_json,
):
    """Encode pictures, or folders of them; any prefix of the file decodes to a coarser one.

    Under torchrun the pictures are shared out, batch by batch; the files are the same.
    """
    asked = {"bytes": n_bytes, "psnr": psnr, "steps": steps, "lossless": lossless or None}
    given = [rate] * (rate is not None) + [Target(**{k: v}) for k, v in asked.items() if v is not None]
    ideal = channel == "ideal"
    if ideal and not given:
        given = [Target(steps=MAX_STEPS)]
    if len(given) != 1:
        raise CodecError("say exactly one of --rate, --bytes, --psnr, --steps and --lossless")
    if ideal and (lossless or output is not None):
        raise CodecError("--channel ideal writes no file; go without -o and --lossless")
    from ddpm.data import SUFFIXES
    from ddpm.distributed import join

    from .api import Codec, pick_device, usual_model

    workers = join(pick_device(device))
    images = with_folders(images, SUFFIXES, "pictures")
    outputs = dict.fromkeys(images, "") if ideal else name_outputs(images, output, SUFFIX, force)
    workers.wait()  # before anyone writes what another would find to exist
    report = Reporter(quiet, as_json, "-" in outputs.values(), workers)
    if as_json and "-" in outputs.values():
        raise CodecError("--json and a file cannot both go to standard output")
    codec_of = cache(lambda name: Codec(name, workers.device))
    if model:
        codec_of(model)  # an unknown one is said at once
    waiting: dict[tuple, list[tuple[str, np.ndarray]]] = {}
    batches = count()

    def flush(group):
        if next(batches) % workers.world != workers.rank:
            return None
        names, arrays = zip(*group)
        height, width = arrays[0].shape[:2]
        give_memory_back(height * width)
        codec = codec_of(model or usual_model(height, width))
        try:
            with report.bar(0, names[0] if len(names) == 1 else f"{len(names)} pictures") as bar:
                if given[0].psnr is None:  # then a picture goes through the chain several times
                    bar.total = codec.plan(height, width, split(arrays[0])[0].ndim == 2).steps
                files = codec.encode(
                    arrays,
                    given[0],
                    seed=seed,
                    channel=channel,
                    fp32=fp32,
                    max_pixels=max_pixels,
                    progress=bar.update,
                )
        except CodecError as e:
            return [report.error(f"{name}: {e}") for name in names]
        for name, file in zip(names, files):
            quality = {
                "psnr": file.psnr if np.isfinite(file.psnr) else None,
                "mse": file.mse,
                "ideal_bits_per_dim": file.ideal_bits / file.dims,
                "seconds": file.seconds,
            }
            shown = f"PSNR {file.psnr:.2f} dB" if np.isfinite(file.psnr) else "exact"
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
                **quality,
            )
        return None

    for name in images:
        try:
            source = read_input("-") if name == "-" else name
            array = read_picture(source, drop_alpha=drop_alpha, keep_alpha=lossless, max_pixels=max_pixels)
        except CodecError as e:
            report.error(str(e))
            continue
        group = waiting.setdefault(array.shape, [])
        group.append((name, array))
        if (len(group) + 1) * array.shape[0] * array.shape[1] > BATCH_PIXELS or psnr is not None:
            flush(waiting.pop(array.shape))
    for group in waiting.values():
        flush(group)
    report.close(images if ideal else outputs.values())


@cli.command()
@click.argument("files", nargs=-1, required=True)
@click.option("-o", "--output", help="PNG file, folder, or - for stdout. Default: beside the file.")
@click.option("--rate", type=Rate(), help="Use only the first so many bits/dim (or bpp) of each file.")
@click.option("--max-size", type=click.IntRange(1), help="A smaller picture, of at most so many pixels a side; faster.")
@click.option(
    "--recon",
    type=click.Choice(["mean", "flow", "sample"]),
    default="mean",
    show_default=True,
    help="mean: the best PSNR, smooth; flow: the ODE's; sample: sharp, its details are invented.",
)
@click.option("--model", help="Name or path; default: the known model that the file names.")
@options(device_option, pixels_option, force_option, *common)
def decode(files, output, rate, max_size, recon, model, device, max_pixels, force, quiet, as_json):
    """Decode files, prefixes of files, or folders of them, to PNG."""
    from .api import codec_for, pick_device

    device = pick_device(device)
    files = with_folders(files, {SUFFIX}, f"{SUFFIX} files")
    outputs = name_outputs(files, output, ".png", force)
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
            with report.bar(max(i.steps for i in infos), names[0] if len(names) == 1 else f"{len(names)} files") as bar:
                pictures = codecs[0].decode(
                    contents,
                    recon=recon,
                    rate=rates,
                    max_size=max_size,
                    max_pixels=max_pixels,
                    progress=bar.update,
                )
        except CodecError as e:
            return [report.error(f"{name}: {e}") for name in names]
        for name, info, picture in zip(names, infos, pictures):
            if not info.complete:
                of = f" of {info.whole_bytes}" if info.whole_bytes else ""
                report.warn(f"{name}: cut after {info.file_bytes}{of} bytes; shown unverified")
            try:
                make_folder(outputs[name])
                write_output(outputs[name], png_bytes(picture.array))
            except CodecError as e:
                report.error(str(e))
                continue
            height, width = picture.array.shape[:2]
            report.row(
                f"{outputs[name]}: {width}x{height}, {picture.steps} steps of {info.model}",
                file=outputs[name],
                width=width,
                height=height,
                model=info.model,
                steps=picture.steps,
                complete=info.complete,
            )
        return None

    for name in files:
        try:
            data = read_input(name)
            codec = codec_for(data, model, device)
            info = codec.open(data, max_pixels).info
        except CodecError as e:
            report.error(f"{name}: {e}" if name not in str(e) else str(e))
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


@cli.command()
@click.argument("file")
@click.option("--model", help="Name or path; default: the known model that the file names.")
@click.option("--json", "as_json", is_flag=True, help="Report as JSON on stdout.")
def info(file, model, as_json):
    """Say what a file holds."""
    from .api import inspect

    data = read_input(file)
    try:
        i = inspect(data, model=model)
    except CodecError as e:
        raise CodecError(f"{file}: {e}") from None
    h = i.header
    fields = {
        "file": file,
        "mode": h.mode,
        "precision": "bf16" if h.bf16 else "fp32",
        "model": i.model,
        "width": h.width,
        "height": h.height,
        "grey": h.grey,
        "seed": h.seed,
        "factor": None if i.free else h.profile.scale / 256,
        "tilt": None if i.free else h.profile.tilt,
        "steps": h.steps,
        "steps_present": i.steps,
        "gamma": i.gamma,
        "bytes": i.file_bytes,
        "whole_bytes": i.whole_bytes,
        "header_bytes": i.header_bytes,
        "bits_per_dim": 8 * i.file_bytes / i.dims,
        "complete": i.complete,
    }
    print(json.dumps(fields, indent=1) if as_json else "\n".join(f"{k:14} {v}" for k, v in fields.items()))


@cli.command()
@click.option("--json", "as_json", is_flag=True, help="Report as JSON on stdout.")
def models(as_json):
    """List the models at hand."""
    from ddpm.model import ModelError, find_model, read_card, shipped_models

    from .api import SMALL, usual_model

    usual = {SMALL: f"pictures up to {SMALL}x{SMALL}", SMALL + 1: "larger pictures"}
    usual = {find_model(usual_model(side, side)): which for side, which in usual.items()}
    rows, broken = [], []
    for name, path in shipped_models().items():
        try:
            card = read_card(path)
        except ModelError as e:
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
        pictures = f"{row['pictures']:,} pictures" if "pictures" in row else ""
        of = ", ".join(w for w in (pictures, row.get("of")) if w)
        words.append(f"{row['bits_per_dim']} bits/dim" + (f" of {of}" if of else ""))
    return "; ".join(words)


def main() -> None:
    """Entry point: one line and exit code 2 for whatever the user or a file got wrong."""
    give_memory_back()
    share_cores()
    try:
        cli.main(standalone_mode=False)
    except CodecError as e:
        fail(str(e))
    except click.exceptions.Abort:
        sys.exit(130)
    except getattr(click.exceptions, "NoArgsIsHelpError", ()) as e:
        e.show()
        sys.exit(e.exit_code)
    except click.ClickException as e:
        fail(e.format_message())
    except click.exceptions.Exit as e:
        sys.exit(e.exit_code)
    except BrokenPipeError:
        sys.exit(2)
    except OSError as e:
        fail(trouble(e))
    except (MemoryError, RuntimeError) as e:
        if isinstance(e, RuntimeError) and "alloc" not in str(e) and "out of memory" not in str(e):
            raise
        fail("not enough memory for this picture")


def fail(text: str) -> None:
    print("error: " + " ".join(text.split()), file=sys.stderr)
    sys.exit(2)
