"""``ddpm-codec sample``: pictures from a model, alone or tiled into the figures of Ho et al. 2020."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence

import click
import numpy as np

from codec.batch import BATCH_PIXELS
from codec.device import pick_device
from codec.errors import CodecError, as_mistakes
from codec.images.formats import picture_bytes
from codec.images.pictures import MAX_PIXELS, read_picture
from ddpm.diffusion.figures import NUMBERS, Figure
from ddpm.images.sheets import tiled

from .files import name_outputs, read_reverse, write_output
from .options import common, device_option, force_option, model_option, options
from .report import Reporter
from .types import File, Size


@click.command()
@click.option(
    "-o", "--output", type=File(), help="File, - for stdout, or a folder for single pictures. Default: FIGURE.png."
)
@model_option
@click.option("--figure", type=click.Choice(list(NUMBERS)), default="grid", show_default=True, help="See above.")
@click.option(
    "-n", "--number", type=click.IntRange(1), help=f"How many: {', '.join(f'{v} ({k})' for k, v in NUMBERS.items())}."
)
@click.option("--size", type=Size(), help="WxH of a picture. Default: what the model was trained on, or 64x64.")
@click.option("--steps", type=click.IntRange(2), default=200, show_default=True, help="Levels of noise, the paper's T.")
@click.option(
    "--method",
    type=click.Choice(["ancestral", "flow"]),
    default="ancestral",
    show_default=True,
    help="flow: the ODE, as DDIM does.",
)
@click.option(
    "--variance", type=click.Choice(["learned", "beta", "beta-tilde"]), help="Of a step. Default: the model's own."
)
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True, help="Of what is drawn.")
@click.option(
    "--at", type=click.FloatRange(0, 1), multiple=True, help="How much of the chain is to come, 1 to 0; repeatable."
)
@click.option("--image", "images", multiple=True, type=File(), help="For interpolate, twice: the two pictures.")
@options(device_option, force_option, *common)
def sample(
    output, name, figure, number, size, steps, method, variance, seed, at, images, device, force, quiet, as_json
):
    """Draw pictures from a model.

    \b
    grid         samples
    progressive  a sample in each row; columns: x_hat over time, at the levels --at
    shared       in each row x_t at a level --at, then samples that all start from it
    interpolate  in each row the first --image, mixtures at a level --at, the second

    A picture depends on the seed and its number alone, not on how many are drawn.
    """
    if as_json and output == "-":
        raise CodecError("--json and a picture cannot both go to standard output")
    check(figure, number=number, size=size, method=method, at=at, images=images)
    plan = Figure.usual(figure, number, at)
    apart = bool(output) and (os.path.isdir(output) or output.endswith("/"))
    names = tuple(name_of(plan, i) for i in range(plan.pictures)) if apart else (figure,)
    outputs = list(name_outputs(names, output, ".png", force=force, sources=images).values())

    pair = read_pair(images) if figure == "interpolate" else None
    start, report = time.monotonic(), Reporter(quiet, as_json, output == "-")
    reverse = read_reverse(name, pick_device(device), variance)
    with as_mistakes():
        gammas = reverse.levels(steps)
    native = reverse.model.config.get("native") or 64
    width, height = size or ((native, native) if pair is None else (pair.shape[3], pair.shape[2]))
    told = {"figure": figure, "width": width, "height": height, "model": reverse.model.name, "method": method}
    told |= {"variance": reverse.variance} if method == "ancestral" else {}
    told |= {"steps": len(gammas), "seed": seed} | ({} if figure == "grid" else {"at": list(plan.at)})

    def write(path: str, picture: np.ndarray, **place) -> None:
        write_output(path, picture_bytes(picture, path))
        told["seconds"] = round(time.monotonic() - start, 2)
        report.row(f"{path}: {picture.shape[1]}x{picture.shape[0]}, {told['seconds']} s", file=path, **place, **told)

    with report.bar(plan.evaluations(gammas), figure) as bar:
        bar.unit = "evaluation"
        how = {"seed": seed, "pair": pair, "method": method, "progress": bar.update}
        how |= {"batch": max(1, BATCH_PIXELS // (height * width))}
        pictures = plan.draw(reverse, gammas, (height, width), **how)
        if apart:
            for i, (path, picture) in enumerate(zip(outputs, pictures)):
                write(path, picture, row=i // plan.columns, column=i % plan.columns)
        else:
            sheet = tiled(list(pictures), plan.columns)
            write(outputs[0], sheet, rows=plan.rows, columns=plan.columns, pictures=plan.pictures)
    report.close()


def check(figure: str, *, number: int | None, size, method: str, at: Sequence[float], images: Sequence[str]) -> None:
    """CodecError for what is asked of a figure that has no such thing."""
    if len(images) != (2 if figure == "interpolate" else 0):
        raise CodecError("--figure interpolate takes two pictures, each after --image; other figures take none")
    if figure == "interpolate" and size:
        raise CodecError("the size of --figure interpolate is that of its pictures; go without --size")
    if figure == "shared" and method == "flow":
        raise CodecError("from one x_t the flow leads to one picture; use --method ancestral")
    if figure == "grid" and at:
        raise CodecError("--figure grid shows finished samples; --at is for the others")
    if size and size[0] * size[1] > MAX_PIXELS:
        raise CodecError(f"{size[0]}x{size[1]} pixels; at most {MAX_PIXELS}")
    if figure == "interpolate" and (number or NUMBERS[figure]) < 2:
        raise CodecError("an interpolation has at least two mixtures; use -n 2 or more")


def name_of(figure: Figure, i: int) -> str:
    """Of picture i, if each goes to a file of its own."""
    row, column = divmod(i, figure.columns)
    return f"{i:05d}" if figure.kind == "grid" else f"{row:03d}-{column:03d}"


def read_pair(names: Sequence[str]):
    """Two pictures of one size -> (2, 3, H, W) on [-1, 1]; grey ones become RGB."""
    arrays = [read_picture(name, alpha="drop") for name in names]
    if arrays[0].shape[:2] != arrays[1].shape[:2]:
        raise CodecError("the two pictures must have one size")
    stacked = np.stack([a if a.ndim == 3 else np.repeat(a[..., None], 3, 2) for a in arrays])
    import torch

    from ddpm.diffusion.likelihood import to_unit

    return to_unit(torch.from_numpy(stacked).permute(0, 3, 1, 2))
