"""``ddpm-codec calibrate``: the coding tables of a model."""

from __future__ import annotations

import shlex

import click

from codec.device import pick_device
from codec.lossy.plan import MAX_STEPS

from .files import check_sources
from .options import device_option, options, skip_bad_option
from .report import command, counted
from .types import File, Model

AT_LEAST_1 = click.IntRange(1)


@click.command(short_help="Measure the coding tables of a model.")
@click.argument("model", type=Model(runs=True))
@click.argument("data", nargs=-1, required=True, type=File())
@click.option(
    "-o", "--output", type=File(), help="Path of the model to write (without suffix); not for a diffusers model."
)
@click.option("--tile", type=AT_LEAST_1, help="DATA are contact sheets of squares of this side.")
@click.option("--images", type=AT_LEAST_1, default=96, show_default=True, help="How many pictures to measure on.")
@click.option(
    "--crop", type=AT_LEAST_1, default=256, show_default=True, help="Larger pictures are cropped to this square."
)
@click.option(
    "--steps",
    type=click.IntRange(1, MAX_STEPS - 1),
    default=60,
    show_default=True,
    help="Levels of the chain; short messages are merged.",
)
@click.option(
    "--surplus",
    type=click.FloatRange(0, 8, min_open=True),
    default=1.05,
    show_default=True,
    help="Bits sent per bit of KL.",
)
@click.option(
    "--memory", type=click.IntRange(1, 16), default=16, show_default=True, help="Register of the trellis, bits."
)
@click.option("--min-bits", type=AT_LEAST_1, default=30, show_default=True, help="Least bits of a step.")
@click.option("--thin", type=AT_LEAST_1, help="Least bits of a step at the size of DATA. Default: as --min-bits.")
@click.option(
    "--block",
    type=click.IntRange(1, 64),
    default=8,
    show_default=True,
    help="Side of the blocks of the cosine basis, pixels.",
)
@click.option(
    "--scale",
    "scales",
    type=click.IntRange(2, 64),
    multiple=True,
    help="Let noisy levels run 1/SCALE size; repeatable.",
)
@click.option("--context-only", is_flag=True, help="Keep MODEL's tables; measure only those of lossless pixels.")
@click.option("--exact", is_flag=True, help="Keep MODEL's tables; make its integers anew, of a network of kind local.")
@click.option("--test", type=File(), help="Pictures to evaluate the bound on, for the model card.")
@click.option("--note", help="What the card shall say besides, e.g. the licence of the pictures.")
@options(skip_bad_option, device_option, click.option("--quiet", is_flag=True, help="No progress and no report."))
def calibrate(
    model,
    data,
    output,
    tile,
    images,
    crop,
    steps,
    surplus,
    memory,
    min_bits,
    thin,
    block,
    scales,
    context_only,
    exact,
    test,
    note,
    skip_bad,
    device,
    quiet,
):
    """Measure the coding tables of MODEL (a training run's folder or a model) on DATA and write a model that codes.

    The tables of a model that the diffusers project saved are stored in its own folder.
    """
    check_sources([*data, test] if test else data)
    from codec.calibration.release import release

    settings = {"steps": steps, "surplus": surplus, "memory": memory, "min_bits": min_bits, "thin": thin}
    settings |= {"block": block, "scales": (1, *scales)}
    made, pictures = release(
        model,
        data,
        output,
        tile=tile,
        images=images,
        crop=crop,
        settings=None if context_only or exact else settings,
        exact=exact,
        test=test,
        note=note,
        skip_bad=skip_bad,
        device=pick_device(device),
        quiet=quiet,
    )
    if not quiet:
        name = output or model
        tables = f"tables of {counted(pictures, 'picture')}, {counted(len(made.levels), 'level')}"
        print(f"{name}: {tables}; next: {command('encode')} PICTURE --model {shlex.quote(name)}")
