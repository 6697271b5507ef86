"""What all measurements share as commands: a mistake is one line and exit code 2, and is found before hours of work."""

from __future__ import annotations

import math
import os
import sys
import tempfile
from functools import partial
from pathlib import Path

import click

from codec.cli.mistakes import told_in_lines
from codec.diagrams import kind_of
from codec.errors import CodecError
from ddpm.files import is_special

COUNT, FROM_ZERO = click.IntRange(1), click.IntRange(0)
POSITIVE = click.FloatRange(0, min_open=True)


class Command(click.Command):
    """``error: ...`` and exit code 2 for whatever a user, a file or a disk got wrong; other exceptions are our bugs."""

    def main(self, *args, standalone_mode=True, **kwargs):
        if not standalone_mode:
            return super().main(*args, standalone_mode=False, **kwargs)
        with told_in_lines():
            super().main(*args, standalone_mode=False, **kwargs)
        sys.exit(0)


command = partial(click.command, cls=Command)


def listed(kind, least=-math.inf, most=math.inf, among=()):
    """An option's callback: values separated by commas, numbers within limits, or all of them ``among`` some words."""

    def parse(context, parameter, value: str) -> list:
        try:
            found = [kind(part.strip()) for part in value.split(",")]
        except ValueError:
            raise click.BadParameter(f"{value!r} are not values separated by commas") from None
        if kind is not str and not all(least <= v <= most for v in found):
            raise click.BadParameter(f"{value!r}: values are {least:g} to {most:g}")
        if among and (unknown := set(found) - set(among)):
            raise click.BadParameter(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(among)}")
        return found

    return parse


def writable(context, parameter, path: Path | None) -> Path | None:
    """An option's callback for a file to write: its folder is there and takes files, or can be made."""
    if path is None or is_special(path):
        return path
    if path.is_dir():
        raise click.BadParameter(f"{path} is a folder")
    return takes_files(path.parent) and path


def folder(context, parameter, path: Path | None) -> Path | None:
    """The same for a folder of files to write."""
    return path and takes_files(path) and path


def takes_files(place: Path) -> bool:
    """Whether files can be written in a folder, which may not be there yet; BadParameter if not."""
    there = next(p for p in (place.absolute(), *place.absolute().parents) if os.path.lexists(p))
    try:
        with tempfile.TemporaryFile(dir=there):
            return True
    except OSError as e:
        raise click.BadParameter(f"{there}: {e.strerror or e}") from None


def drawable(context, parameter, path: Path | None) -> Path | None:
    """The same for a picture, of a kind that can be drawn."""
    try:
        return path and kind_of(path) and writable(context, parameter, path)
    except CodecError as e:
        raise click.BadParameter(str(e)) from None
