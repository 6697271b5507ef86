"""``ddpm-codec encode``: pictures, or folders of them, as files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
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
from codec.target import QUALITY, Target
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
@click.option(
    "--steps", type=click.IntRange(1), help="So many steps of the chain, even if the exact picture is smaller."
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
    target, ideal = target_of(rate, asked, channel), channel == "ideal"
    if ideal and (lossless or output is not None):
        raise CodecError("--channel ideal writes no file; go without -o and --lossless")
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
    how = {"seed": seed, "channel": channel, "fp32": fp32, "max_pixels": max_pixels}
    job = EncodeJob(target, model, workers.device, how, lossless, outputs, report)
    most = BATCH_PIXELS if psnr is None else 0  # what a picture needs to reach a PSNR is its own
    for batch in shared(gathered(read(outputs, report, rules), Named.shape, Named.pixels, most), workers):
        job.of(batch)
    report.close(outputs if ideal else outputs.values())


def target_of(rate: Target | None, asked: dict, channel: str) -> Target:
    """The one thing that is asked for, or what is usual."""
    given = [] if rate is None else [rate]
    given += [Target(**{k: v}) for k, v in asked.items() if v is not None]
    if not given:
        given = [Target(steps=MAX_STEPS) if channel == "ideal" else Target(quality=QUALITY)]
    if len(given) != 1:
        raise CodecError("say at most one of --quality, --rate, --bytes, --psnr, --steps and --lossless")
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


@dataclass
class EncodeJob:
    """What is asked of all pictures, and where their files go.

    how: options of ``Codec.encode``. lossless: whether that was asked for, not only come to. outputs: of each name.
    """

    target: Target
    model: str | None
    device: str
    how: dict
    lossless: bool
    outputs: dict[str, str]
    report: Reporter
    codecs: dict[str, Codec] = field(default_factory=dict)

    def of(self, batch: Sequence[Named]) -> None:
        """Encode pictures of one shape, write their files and say so."""
        height, width = batch[0].shape()[:2]
        give_memory_back(height * width)
        codec = self.codec(self.model or usual_model(height, width))  # what is wrong with a model is wrong with all
        for (name, picture), file in outcomes(batch, partial(self.encoded, codec)):
            if isinstance(file, Exception):
                self.report.error(f"{name}: {in_one_line(file)}")
            elif self.how["channel"] == "ideal":
                self.say_ideal(name, picture, file)
            else:
                self.write(name, picture, file)

    def codec(self, name: str) -> Codec:
        from codec.api import Codec

        if name not in self.codecs:
            self.codecs[name] = Codec(name, self.device)
        return self.codecs[name]

    def encoded(self, codec: Codec, batch: Sequence[Named]) -> list[Encoded]:
        """Under a bar, which counts the steps of the chain."""
        names, pictures = zip(*batch)
        height, width = batch[0].shape()[:2]
        with self.report.bar(0, names[0] if len(names) == 1 else counted(len(names), "picture")) as bar:
            if self.target.psnr is None:  # then a picture goes through the chain several times
                bar.total = codec.plan(height, width, split(pictures[0].array)[0].ndim == 2).steps
            return codec.encode(pictures, self.target, progress=bar.update, **self.how)

    def write(self, name: str, picture: Picture, file: Encoded) -> None:
        output, size = self.outputs[name], len(file.data)
        try:
            write_output(output, file.data)
        except CodecError as e:
            self.report.error(str(e))
            return
        bits_per_pixel = 8 * size / file.pixels
        self.report.row(
            f"{output}: {size} bytes, {file.bits_per_dim:.4f} bits/dim, {bits_per_pixel:.4f} bits/pixel, "
            f"{self.shown(picture, file)}, {file.seconds:.1f} s",
            file=output,
            bytes=size,
            bits_per_dim=file.bits_per_dim,
            bits_per_pixel=bits_per_pixel,
            mode=file.mode,
            **figures(file),
        )

    def say_ideal(self, name: str, picture: Picture, file: Encoded) -> None:
        told = figures(file)
        words = f"{told['ideal_bits_per_dim']:.4f} bits/dim over an ideal channel, {self.shown(picture, file)}"
        self.report.row(f"{name}: {words}, {file.seconds:.1f} s", file=name, **told)

    def shown(self, picture: Picture, file: Encoded) -> str:
        """How near the file is to the picture, and its mode if that is not what was asked for."""
        near = f"PSNR {file.psnr:.2f} dB" if np.isfinite(file.psnr) else "exact"
        near += " after conversion to sRGB" if picture.converted and near == "exact" else ""
        told = file.mode == "stored" or (file.mode.startswith("lossless") and not self.lossless)
        return f"{near}, {file.mode}" if told else near


def figures(file: Encoded) -> dict:
    """Those that a file and an ideal channel have."""
    return {
        "psnr": file.psnr if np.isfinite(file.psnr) else None,
        "mse": file.mse,
        "ideal_bits_per_dim": None if file.mode == "stored" else file.ideal_bits / file.dims,
        "seconds": file.seconds,
    }
