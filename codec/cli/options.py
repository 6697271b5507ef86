"""Options that several commands share."""

from __future__ import annotations

import click

from codec.images.pictures import MAX_PIXELS

from .types import Device, Model

common = [
    click.option("--quiet", is_flag=True, help="No progress and no report."),
    click.option("--json", "as_json", is_flag=True, help="Report as JSON on stdout."),
]
device_option = click.option(
    "--device", type=Device(), default="auto", show_default=True, help="auto, cpu, cuda or cuda:N."
)
pixels_option = click.option(
    "--max-pixels", type=click.IntRange(1), default=MAX_PIXELS, show_default=True, help="Refuse larger pictures."
)
model_option = click.option(
    "--model", "name", type=Model(), default="cifar10", show_default=True, help="Name, line (its newest), or path."
)
force_option = click.option("--force", is_flag=True, help="Replace existing files.")
skip_bad_option = click.option("--skip-bad", is_flag=True, help="Leave out pictures that cannot be read; say which.")
skip_existing_option = click.option(
    "--skip-existing", is_flag=True, help="Leave existing outputs alone: take a batch up again."
)


def options(*decorators):
    """Several options, or lists of them with *, as one decorator; they are shown in this order."""

    def apply(f):
        for d in reversed(decorators):
            f = d(f)
        return f

    return apply
