"""``ddpm-codec decode``: files, prefixes of files, or folders of them, as pictures."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import click

from codec.archive.header import MAGIC as ARCHIVE
from codec.batch import gathered, outcomes
from codec.errors import CodecError
from codec.format.container import Header
from codec.images.formats import FORMATS, format_of, picture_bytes
from codec.process import give_memory_back
from codec.target import Target

from .files import SUFFIX, name_outputs, output_among, read_input, with_folders, write_output
from .mistakes import in_one_line
from .options import common, device_option, force_option, options, pixels_option, skip_existing_option
from .report import Reporter, counted
from .types import File, Model, Rate

if TYPE_CHECKING:
    from codec.api import Codec, Decoded, Info, Storage


class Input(NamedTuple):
    """A file's name and content, who decodes it, and what it says of itself."""

    name: str
    data: bytes
    codec: Codec | Storage
    info: Info

    def kind(self) -> tuple:
        h = self.info.header
        return self.info.model, h.height, h.width, h.grey

    def pixels(self) -> int:
        return self.info.header.height * self.info.header.width


@click.command(short_help="Decode files, or folders of them.")
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
    outputs = name_outputs(files, output, ".png", force=force, skip_existing=skip_existing, quiet=quiet)
    report = Reporter(quiet, as_json, "-" in outputs.values())
    if as_json and "-" in outputs.values():
        raise CodecError("--json and a picture cannot both go to standard output")
    work = partial(decoded, report, rate, {"recon": recon, "max_size": max_size, "max_pixels": max_pixels})
    for batch in gathered(read(outputs, report, model, device, max_pixels), Input.kind, Input.pixels):
        give_memory_back(batch[0].pixels())
        for file, picture in outcomes(batch, work):
            if isinstance(picture, Exception):
                report.error(f"{file.name}: {in_one_line(picture)}")
            else:
                write(file, picture, outputs[file.name], report)
    report.close(outputs.values())


def read(names: Iterable[str], report: Reporter, model: str | None, device: str, max_pixels: int) -> Iterator[Input]:
    """The files that can be decoded; of the others the report says why not."""
    for name in names:
        try:
            file = opened(name, model, device, max_pixels)
        except Exception as e:
            report.error(f"{name}: {in_one_line(e)}" if name not in str(e) else str(e))
            continue
        yield file


def opened(name: str, model: str | None, device: str, max_pixels: int) -> Input:
    """A file of that name, by the model that it names or that is named."""
    data = read_input(name)
    if data.startswith(ARCHIVE):
        raise CodecError("an archive; ddpm-codec archive extract takes its pictures out")
    Header.unpack(data, lambda byte: 1)  # what is no file of ours need not wait for torch
    from codec.api import codec_for

    codec = codec_for(data, model, device)
    return Input(name, data, codec, codec.open(data, max_pixels).info)


def decoded(report: Reporter, rate: Target | None, how: dict, batch: Sequence[Input]) -> list[Decoded]:
    """Files of one kind, under a bar, which counts the steps of the longest. how: options of ``Codec.decode``."""
    names, contents, codecs, infos = zip(*batch)
    used = None if rate is None else bits_per_dim(rate, 1 if infos[0].header.grey else 3)
    with report.bar(max(i.steps for i in infos), names[0] if len(names) == 1 else counted(len(names), "file")) as bar:
        return codecs[0].decode(contents, rate=used, progress=bar.update, **how)


def write(file: Input, picture: Decoded, output: str, report: Reporter) -> None:
    """Write a picture, and say what it is of: of a cut file, that nothing vouches for it."""
    info = file.info
    if not info.complete:
        of = f" of {info.whole_bytes}" if info.whole_bytes else ""
        report.warn(f"{file.name}: cut after {info.file_bytes}{of} bytes; shown unverified")
    beside = {"icc": picture.icc, "exif": picture.exif, "xmp": picture.xmp}
    try:
        write_output(output, picture_bytes(picture.array, output, **beside))
    except CodecError as e:
        report.error(str(e))
        return
    if info.complete and info.header.lossless and not format_of(output).lossless:
        report.warn(f"{output}: the file is lossless, JPEG is not: these are not the very pixels")
    height, width = picture.array.shape[:2]
    how = "stored" if info.header.stored else f"{counted(picture.steps, 'step')} of {info.model}"
    report.row(
        f"{output}: {width}x{height}, {how}",
        file=output,
        width=width,
        height=height,
        model=info.model,
        steps=picture.steps,
        complete=info.complete,
    )


def bits_per_dim(rate: Target, channels: int) -> float:
    """A rate, see ``Rate``, in one unit."""
    if rate.bits_per_dim is not None:
        return rate.bits_per_dim
    assert rate.bits_per_pixel is not None  # a rate has no other unit
    return rate.bits_per_pixel / channels
