"""``ddpm-codec sample``: pictures from a model, alone or tiled into the figures of Ho et al. 2020."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterable, Sequence

import click
import numpy as np

from codec.errors import CodecError
from codec.images.formats import picture_bytes

from .console import (
    BATCH_PIXELS,
    Reporter,
    common,
    device_option,
    force_option,
    make_folder,
    model_option,
    name_outputs,
    options,
    write_output,
)
from .types import File, Size

GAP = 2  # white pixels between tiles
NUMBERS = {"grid": 16, "progressive": 8, "shared": 7, "interpolate": 9}
LOOKS = {"progressive": tuple(np.linspace(1, 0, 11).tolist())}
FROZEN = (0.9, 0.75, 0.6, 0.45)


def tiled(pictures: Sequence[np.ndarray], columns: int, gap: int = GAP) -> np.ndarray:
    """uint8 (H, W, 3) each, row by row -> one picture of them on white."""
    height, width, _ = pictures[0].shape
    rows = -(-len(pictures) // columns)
    sheet = np.full((rows * (height + gap) + gap, columns * (width + gap) + gap, 3), 255, np.uint8)
    for i, picture in enumerate(pictures):
        y, x = gap + i // columns * (height + gap), gap + i % columns * (width + gap)
        sheet[y : y + height, x : x + width] = picture
    return sheet


def to_pictures(x) -> np.ndarray:
    """(..., C, H, W) on [-1, 1] -> uint8 (N, H, W, C)."""
    from ddpm.diffusion.likelihood import to_levels

    return to_levels(x.flatten(0, -4)).permute(0, 2, 3, 1).numpy()


def read_pair(names: Sequence[str]):
    """Two pictures of one size -> (2, 3, H, W) on [-1, 1]; grey ones become RGB."""
    from codec.images.pictures import read_picture

    arrays = [read_picture(name, drop_alpha=True) for name in names]
    if arrays[0].shape[:2] != arrays[1].shape[:2]:
        raise CodecError("the two pictures must have one size")
    stacked = np.stack([a if a.ndim == 3 else np.repeat(a[..., None], 3, 2) for a in arrays])
    import torch

    from ddpm.diffusion.likelihood import to_unit

    return to_unit(torch.from_numpy(stacked).permute(0, 3, 1, 2))


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
    from codec.images.pictures import MAX_PIXELS

    if as_json and output == "-":
        raise CodecError("--json and a picture cannot both go to standard output")
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
    number, at = number or NUMBERS[figure], at or LOOKS.get(figure, FROZEN)
    if figure == "interpolate" and number < 2:
        raise CodecError("an interpolation has at least two mixtures; use -n 2 or more")
    columns = {
        "grid": math.ceil(math.sqrt(number)),
        "progressive": len(at),
        "shared": number + 1,
        "interpolate": number + 2,
    }[figure]
    count = {"grid": number, "progressive": number * columns}.get(figure, len(at) * columns)
    apart = bool(output) and (os.path.isdir(output) or output.endswith("/"))
    names = [f"{i:05d}" if figure == "grid" else f"{i // columns:03d}-{i % columns:03d}" for i in range(count)]
    outputs = list(name_outputs(tuple(names) if apart else (figure,), output, ".png", force, images).values())

    pair = read_pair(images) if figure == "interpolate" else None
    start, report = time.monotonic(), Reporter(quiet, as_json, output == "-")
    reverse, gammas = reverse_process(name, variance, steps, device)
    native = reverse.model.config.get("native") or 64
    width, height = size or ((native, native) if pair is None else (pair.shape[3], pair.shape[2]))
    told = {"figure": figure, "width": width, "height": height, "model": reverse.model.name, "method": method}
    told |= {"variance": reverse.variance} if method == "ancestral" else {}
    told |= {"steps": len(gammas), "seed": seed} | ({} if figure == "grid" else {"at": list(at)})

    def write(path: str, picture: np.ndarray, **place) -> None:
        make_folder(path)
        write_output(path, picture_bytes(picture, path))
        told["seconds"] = round(time.monotonic() - start, 2)
        report.row(f"{path}: {picture.shape[1]}x{picture.shape[0]}, {told['seconds']} s", file=path, **place, **told)

    with report.bar(0, figure) as bar:
        bar.unit = "look"
        cells = draw(reverse, gammas, figure, (height, width), seed, number, at, pair, method, bar)
        if apart:
            for i, (path, picture) in enumerate(zip(outputs, cells)):
                write(path, picture, row=i // columns, column=i % columns)
        else:
            write(outputs[0], tiled(list(cells), columns), rows=-(-count // columns), columns=columns, pictures=count)
    report.close()


def reverse_process(name: str, variance: str | None, steps: int, device: str):
    """The model's reverse process, with the variance asked for or its own, and the levels of its chain."""
    from codec.api import pick_device
    from ddpm.diffusion.reverse import Reverse
    from ddpm.models.load import load_model

    try:
        model = load_model(name, pick_device(device))
        reverse = Reverse(model, variance)
        return reverse, reverse.levels(steps)
    except ValueError as e:
        raise CodecError(str(e)) from None


def draw(reverse, gammas, figure, size, seed, number, at, pair, method, bar) -> Iterable[np.ndarray]:
    """The pictures of a figure, row by row, uint8 (H, W, 3); ``bar`` counts looks of the network at one image."""
    from ddpm.diffusion.sample import generate, interpolate, position, shared

    shape, device = (3, *size), reverse.model.device
    how = {"batch": max(1, BATCH_PIXELS // (size[0] * size[1])), "progress": bar.update}
    looks = [len(gammas) - position(gammas, a) for a in at]
    bar.total = number * (sum(looks) if figure in ("shared", "interpolate") else len(gammas))
    if figure == "shared":
        bar.total += len(gammas) - min(looks) + 1
        yield from to_pictures(shared(reverse, gammas, shape, seed, at, number, device=device, **how))
    elif figure == "interpolate":
        weights = np.linspace(0, 1, number).tolist()
        rows = interpolate(reverse, gammas, pair.to(device), seed, at, weights, method=method, **how)
        first, second = to_pictures(pair)
        for row in rows:
            yield from (first, *to_pictures(row), second)
    else:
        keep = [position(gammas, a) for a in at] if figure == "progressive" else [-1]
        for batch in generate(
            reverse, gammas, shape, seed, range(number), keep=keep, method=method, device=device, **how
        ):
            yield from to_pictures(batch)
