"""``ddpm-codec encode``: pictures, or folders of them, as files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cache, partial
from typing import TYPE_CHECKING, NamedTuple

import click
import numpy as np

from codec.batch import BATCH_PIXELS, gathered, outcomes, shared
from codec.choices import usual_model
from codec.device import workers_on
from codec.errors import CodecError
from codec.images.alpha import split
from codec.images.pictures import ADVICE
from codec.lossy.plan import MAX_STEPS
from codec.process import give_memory_back
from codec.target import EFFORTS, MAX_ERROR, QUALITY, Target, stride_of
from ddpm.images.pictures import Picture, tell

from .files import SUFFIX, name_outputs, output_among, read_input, with_folders, write_output
from .mistakes import in_one_line
from .options import common, device_option, force_option, options, pixels_option, skip_existing_option
from .report import Reporter, counted
from .types import Bytes, File, Model, Rate

if TYPE_CHECKING:
    from codec.api import Codec, Encoded


class Named(NamedTuple):
    """A picture and what its file is called."""

    name: str
    picture: Picture

    def shape(self) -> tuple[int, ...]:
        return self.picture.array.shape

    def pixels(self) -> int:
        return self.picture.array.shape[0] * self.picture.array.shape[1]


@click.command(short_help="Encode pictures, or folders of them.")
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
@click.option("--max-error", type=click.IntRange(0, MAX_ERROR), help="Every pixel within so many grey levels.")
@click.option(
    "--steps", type=click.IntRange(1), help="So many steps of the chain, even if the exact picture is smaller."
)
@click.option(
    "--effort",
    type=click.IntRange(1, EFFORTS),
    default=EFFORTS,
    help="1 to 4, the default: less takes fewer steps, so less time on both sides, and more bytes.",
)
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
@options(device_option, pixels_option, force_option, skip_existing_option, *common)
def encode(
    images,
    output,
    quality,
    rate,
    n_bytes,
    psnr,
    lossless,
    max_error,
    steps,
    effort,
    model,
    seed,
    drop_alpha,
    keep_metadata,
    channel,
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
    target, ideal = target_of(rate, {**asked, "max_error": max_error}, channel), channel == "ideal"
    lossless = lossless or max_error is not None
    if ideal and (lossless or output is not None):
        raise CodecError("--channel ideal writes no file; go without -o, --lossless and --max-error")
    if ideal:
        outputs = dict.fromkeys(with_folders(images, say=tell), "")
    else:
        images, output = output_among(images, output, {SUFFIX})
        images, left = with_folders(images, say=tell), {"skip_existing": skip_existing, "quiet": quiet}
        outputs = name_outputs(images, output, SUFFIX, force=force, **left)
    if as_json and "-" in outputs.values():
        raise CodecError("--json and a file cannot both go to standard output")
    workers = workers_on(device)
    workers.wait()  # before anyone writes what another would find to exist
    report = Reporter(quiet, as_json, "-" in outputs.values(), workers)
    rules = {"alpha": "drop" if drop_alpha else "keep" if lossless else "refuse", "metadata": keep_metadata, **ADVICE}
    rules |= {"colours": "stored" if lossless else "srgb", "max_pixels": max_pixels}
    how = {"seed": seed, "effort": effort, "channel": channel, "max_pixels": max_pixels}
    most = BATCH_PIXELS if psnr is None else 0  # what a picture needs to reach a PSNR is its own
    batches = shared(gathered(read(outputs, report, rules), Named.shape, Named.pixels, most), workers)
    for (name, picture), file in files_of(batches, model, workers.device, target=target, how=how, report=report):
        words = f"{near(picture, file, lossless)}, {file.seconds:.1f} s"
        if ideal:
            over = f"{file.ideal_bits / file.dims:.4f} bits/dim over an ideal channel"
            report.row(f"{name}: {over}, {words}", file=name, **figures(file))
        else:
            write(outputs[name], file, words, report)
    report.close(outputs if ideal else outputs.values())


def target_of(rate: Target | None, asked: dict, channel: str) -> Target:
    """The one thing that is asked for, or what is usual."""
    given = [] if rate is None else [rate]
    given += [Target(**{k: v}) for k, v in asked.items() if v is not None]
    if not given:
        given = [Target(steps=MAX_STEPS) if channel == "ideal" else Target(quality=QUALITY)]
    if len(given) != 1:
        raise CodecError("say at most one of --quality, --rate, --bytes, --psnr, --steps, --lossless and --max-error")
    return given[0]


def read(names: Iterable[str], report: Reporter, rules: dict) -> Iterator[Named]:
    """The pictures that can be read; of the others the report says why not."""
    for name in names:
        try:
            source = read_input("-") if name == "-" else name
        except CodecError as e:
            report.error(str(e))
            continue
        picture = report.read(source, "standard input" if name == "-" else name, **rules)
        if picture is not None:
            yield Named(name, picture)


def files_of(
    batches: Iterable[Sequence[Named]], model: str | None, device: str, *, target: Target, how: dict, report: Reporter
) -> Iterator[tuple[Named, Encoded]]:
    """Pictures, those of a batch of one shape, and their files; of those that make none the report says why not.

    how: options of ``Codec.encode``.
    """
    codec_of = cache(partial(codec_on, device))
    for batch in batches:
        height, width = batch[0].shape()[:2]
        give_memory_back(height * width)
        codec = codec_of(model or usual_model(height, width))  # what is wrong with a model is wrong with all
        for named, file in outcomes(batch, partial(encoded, codec, target, how, report)):
            if isinstance(file, Exception):
                report.error(f"{named.name}: {in_one_line(file)}")
            else:
                yield named, file


def codec_on(device: str, name: str) -> Codec:
    from codec.api import Codec

    return Codec(name, device)


def encoded(codec: Codec, target: Target, how: dict, report: Reporter, batch: Sequence[Named]) -> list[Encoded]:
    """Under a bar, which counts the steps of the chain."""
    names, pictures = zip(*batch)
    height, width = batch[0].shape()[:2]
    with report.bar(0, names[0] if len(names) == 1 else counted(len(names), "picture")) as bar:
        if target.psnr is None:  # then a picture goes through the chain several times
            grey = split(pictures[0].array)[0].ndim == 2
            bar.total = codec.plan(height, width, grey, stride_of(how["effort"])).steps
        return codec.encode(pictures, target, progress=bar.update, **how)


def write(output: str, file: Encoded, words: str, report: Reporter) -> None:
    size, bits_per_pixel = len(file.data), 8 * len(file.data) / file.pixels
    try:
        write_output(output, file.data)
    except CodecError as e:
        report.error(str(e))
        return
    report.row(
        f"{output}: {size} bytes, {file.bits_per_dim:.4f} bits/dim, {bits_per_pixel:.4f} bits/pixel, {words}",
        file=output,
        bytes=size,
        bits_per_dim=file.bits_per_dim,
        bits_per_pixel=bits_per_pixel,
        mode=file.mode,
        **figures(file),
    )


def near(picture: Picture, file: Encoded, lossless: bool) -> str:
    """How near the file is to the picture, and its mode if that is not what was asked for."""
    words = f"PSNR {file.psnr:.2f} dB" if np.isfinite(file.psnr) else "exact"
    words += " after conversion to sRGB" if picture.converted and words == "exact" else ""
    told = file.mode == "stored" or (file.mode.startswith("lossless") and not lossless)
    return f"{words}, {file.mode}" if told else words


def figures(file: Encoded) -> dict:
    """Those that a file and an ideal channel have."""
    return {
        "psnr": file.psnr if np.isfinite(file.psnr) else None,
        "mse": file.mse,
        "ideal_bits_per_dim": None if file.mode == "stored" else file.ideal_bits / file.dims,
        "seconds": file.seconds,
    }
