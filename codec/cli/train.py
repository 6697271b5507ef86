"""``ddpm-codec train``: a model from pictures."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, NoReturn

import click

from codec.device import pick_device
from codec.errors import CodecError, as_mistakes
from ddpm.training.presets import PRESETS
from ddpm.training.signals import Stop, Stopped

from .files import check_sources
from .options import device_option, options, skip_bad_option
from .report import command
from .types import File, Folder

if TYPE_CHECKING:
    from ddpm.training.train import Run

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
    changes = changed(settings)
    if total_minutes is not None:
        changes["decay_minutes"] = total_minutes
    check_sources(data)
    with Stop() as stop:
        try:
            from ddpm.training.train import train as go_on

            how = {"note": note, "device": pick_device(device), "quiet": quiet, "stop": stop, "skip_bad": skip_bad}
            with as_mistakes():
                run = go_on(output, data, preset, minutes, changes, **how)
        except Stopped as e:
            say_stopped(f"{e} before a step was saved in this call; {output} is as it was", e.number)
    if run.rank:
        return
    go_on_with = command("train", "-o", output)
    if stop.number is not None:
        say_stopped(f"{Stopped(stop.number)}; {standing(run)}; go on with: {go_on_with}", stop.number)
    if not quiet:
        print(f"{output}: {standing(run)}")
        first = f"{go_on_with}, which goes on, or " if run.progress() < 1 else ""
        print(f"next: {first}{calibration(output, run)}")


def changed(settings: Iterable[str]) -> dict:
    """NAME=JSON of each -> name and value."""
    changes = {}
    for item in settings:
        name, _, value = item.partition("=")
        try:
            changes[name] = json.loads(value)
        except ValueError:
            raise CodecError(f"--set {item}: the value is not JSON") from None
    return changes


def calibration(folder: str, run: Run) -> str:
    """The command that makes a model of a run."""
    tile = ["--tile", str(run.config.tile)] if run.config.tile else []
    return command("calibrate", folder, *run.config.data, "-o", f"models/{run.folder.resolve().name}-1", *tile)


def say_stopped(words: str, number: int) -> NoReturn:
    """One line, and the exit code that shells give a process which a signal has ended."""
    print(f"stopped by {words}", file=sys.stderr)
    sys.exit(128 + number)


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
