"""The commands that make a model: train, calibrate."""

from __future__ import annotations

import json
import shlex
import sys
from typing import TYPE_CHECKING

import click

from codec.errors import CodecError
from codec.lossy.plan import MAX_STEPS
from ddpm.training.presets import PRESETS
from ddpm.training.signals import Stop, Stopped

from .batches import skip_bad_option
from .console import check_sources, counted, device_option, options, trouble
from .types import File, Folder, Model

if TYPE_CHECKING:
    from ddpm.training.train import Run

AT_LEAST_1 = click.IntRange(1)
LAST = 5  # rows of the log that the last words take their mean over


@click.command(short_help="Train a model; resumable at any moment.")
@click.argument("data", nargs=-1, type=File())
@click.option("-o", "--output", required=True, type=Folder(), help="Folder of the run; one that is there goes on.")
@click.option(
    "--preset", type=click.Choice(list(PRESETS)), help="Network and settings. Default: the run's own, or cifar10."
)
@click.option(
    "--minutes", type=float, help="Of training now. Default: to the end of the schedule; that of a new run takes 60."
)
@click.option(
    "--total-minutes",
    type=float,
    help="The learning rate falls over so many minutes of all calls together, which later calls keep to. "
    "Default: up to the end of this call.",
)
@click.option("--set", "settings", multiple=True, metavar="NAME=JSON", help="Change a setting, e.g. batch=64.")
@click.option("--note", help="What the model's card shall say of the pictures, e.g. their licence.")
@options(skip_bad_option, device_option, click.option("--quiet", is_flag=True, help="No progress and no report."))
def train(data, output, preset, minutes, total_minutes, settings, note, skip_bad, device, quiet):
    """Train a model on folders, CIFAR-10 files or (with --set tile=32) contact sheets; resumable at any moment.

    A run goes on with its own settings, without DATA on its own pictures. The clock starts after the first step. On
    SIGINT or SIGTERM the step at hand is finished and saved. Under torchrun every process takes its share of a batch.
    """
    changes = {}
    for item in settings:
        name, _, value = item.partition("=")
        try:
            changes[name] = json.loads(value)
        except ValueError:
            raise CodecError(f"--set {item}: the value is not JSON") from None
    if total_minutes is not None:
        changes["decay_minutes"] = total_minutes
    check_sources(data)
    with Stop() as stop:
        try:
            from codec.api import pick_device
            from ddpm.training.train import train as go_on

            run = go_on(output, data, preset, minutes, changes, note, pick_device(device), quiet, stop, skip_bad)
        except Stopped as e:
            say_stopped(f"{e} before a step was saved in this call; {output} is as it was", e.number)
        except CodecError:
            raise
        except OSError as e:
            raise CodecError(trouble(e)) from None
        except ValueError as e:
            raise CodecError(str(e)) from None
    if run.rank:
        return
    if stop.number is not None:
        say_stopped(
            f"{Stopped(stop.number)}; {standing(run)}; go on with: {command('train', '-o', output)}", stop.number
        )
    if not quiet:
        print(f"{output}: {standing(run)}")
        calibration = command("calibrate", output, *run.config.data, "-o", f"models/{run.folder.resolve().name}-1")
        if run.config.tile:
            calibration += f" --tile {run.config.tile}"
        if run.progress() < 1:
            print(f"next: {command('train', '-o', output)}, which goes on, or {calibration}")
        else:
            print(f"next: {calibration}")


def say_stopped(words: str, number: int) -> None:
    """One line, and the exit code that shells give a process which a signal has ended."""
    print(f"stopped by {words}", file=sys.stderr)
    sys.exit(128 + number)


def command(*words: str) -> str:
    return shlex.join(["ddpm-codec", *words])


def standing(run: Run) -> str:
    """How far a run has come, and how good it is."""
    from ddpm.models.runs import log

    rows = log(run.folder)[-LAST:]
    config, minutes = run.config, f"{run.seconds / 60:.1f}"
    of = f" of {run.span / 60:.1f}" if run.span and not config.decay_images and run.progress() < 1 else ""
    words = [f"{run.steps:,} steps", f"{minutes}{of} minutes of training"]
    if config.decay_images:
        words.append(f"{run.images:,} of {config.decay_images:,} pictures")
    for key, name in (("bits_per_dim", "bits/dim"), ("mse", "squared error of eps")):
        if rows and key in rows[-1]:
            mean = sum(row[key] for row in rows) / len(rows)
            words.append(f"{mean:.4f} {name} of its crops (mean of the last {len(rows)} log rows)")
            break
    return ", ".join(words)


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
    "--memory", type=click.IntRange(1, 14), default=14, show_default=True, help="Register of the trellis, bits."
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
    from codec.api import pick_device
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
        settings=None if context_only else settings,
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
