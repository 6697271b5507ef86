"""The command line: the commands, and how the program starts and ends. What they do is in the library."""

from __future__ import annotations

import sys
from importlib.metadata import version

import click

from codec.process import give_memory_back, share_cores

from .archive import archive
from .bpd import bpd
from .calibrate import calibrate
from .card import card
from .decode import decode
from .encode import encode
from .info import info, models
from .mistakes import told_in_lines
from .plot import plot
from .sample import sample
from .streams import finish, prepare
from .train import train


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(version("ddpm-codec"), prog_name="ddpm-codec")
def cli():
    """A denoising diffusion model as a progressive image codec."""


for command in (archive, bpd, calibrate, card, plot, sample, train, encode, decode, info, models):
    cli.add_command(command)


def main() -> None:
    """Entry point: one line and exit code 2 for whatever the user or a file got wrong."""
    prepare()
    try:
        run()
    except SystemExit as e:
        sys.exit(finish(e.code if isinstance(e.code, int) else 0))
    sys.exit(finish(0))


def run() -> None:
    give_memory_back()
    share_cores()
    with told_in_lines():
        cli.main(standalone_mode=False)
