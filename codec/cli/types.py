"""What options and arguments may say, and how a shell completes them."""

from __future__ import annotations

import re
from typing import Any

import click
from click.shell_completion import CompletionItem

from codec.target import ENOUGH, Target

SIZE = re.compile(r"([0-9]+\.?[0-9]*|\.[0-9]+)\s*(|k|m|g|ki|mi|gi)b?", re.IGNORECASE)
UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "ki": 1 << 10, "mi": 1 << 20, "gi": 1 << 30}


class File(click.ParamType):
    """A name of a file or folder, or -, for a shell to complete; whether it is there is said when it is opened."""

    name = "file"

    def shell_complete(self, ctx, param, incomplete):
        return [CompletionItem(incomplete, type="file")]


class Folder(click.ParamType):
    """The same of a folder."""

    name = "folder"

    def shell_complete(self, ctx, param, incomplete):
        return [CompletionItem(incomplete, type="dir")]


class Model(click.ParamType):
    """A model's name, its line or its path; UnknownModel for one that is not there, before torch is imported.

    runs: folders of training runs are models too, and what is none is said later.
    """

    name = "model"

    def __init__(self, runs: bool = False):
        self.runs = runs

    def convert(self, value, param, ctx):
        from ddpm.models.store import find_model

        if not self.runs:
            find_model(value)
        return value

    def shell_complete(self, ctx, param, incomplete):
        """Names and lines; a path, where none begins so."""
        from ddpm.models.store import line_and_number, shipped_models

        names = list(shipped_models())
        names = dict.fromkeys([*(line_and_number(name)[0] for name in names), *names])
        found = [CompletionItem(name) for name in names if name.startswith(incomplete)]
        return found or [CompletionItem(incomplete, type="file")]


class Device(click.ParamType):
    """``auto``, ``cpu``, ``cuda`` or ``cuda:N``; whether it is there is asked of torch."""

    name = "device"

    def convert(self, value, param, ctx):
        from codec.device import check_device

        check_device(value)
        return value

    def shell_complete(self, ctx, param, incomplete):
        return [CompletionItem(name) for name in ("auto", "cpu", "cuda") if name.startswith(incomplete)]


class Rate(click.ParamType):
    """``0.3`` or ``0.3bpd`` (bits/dim), or ``0.9bpp`` (bits/pixel)."""

    name = "rate"

    def convert(self, value, param, ctx):
        number, unit = value.lower().strip(), "bits_per_dim"
        for suffix, meaning in (("bpp", "bits_per_pixel"), ("bpd", "bits_per_dim")):
            if number.endswith(suffix):
                number, unit = number[: -len(suffix)], meaning
        try:
            rate: dict[str, Any] = {unit: float(number)}
            return Target(**rate)
        except ValueError:
            self.fail(f"{value!r} is not a rate such as 0.3 (bits/dim) or 0.9bpp (bits/pixel)")


class Bytes(click.ParamType):
    """``9000``, ``9kB`` (the same) or ``9KiB`` (9216); the B may be left out."""

    name = "size"

    def convert(self, value, param, ctx):
        if isinstance(value, int):
            return value
        if not (found := SIZE.fullmatch(value.strip())):
            self.fail(f"{value!r} is not a size such as 9000, 9kB or 9KiB")
        return int(min(float(found[1]) * UNITS[found[2].lower()], ENOUGH))


class Size(click.ParamType):
    """``96x64`` (width x height), or ``64`` for a square."""

    name = "WxH"

    def convert(self, value, param, ctx):
        sides = value.lower().split("x")
        if len(sides) > 2 or not all(s.isascii() and s.isdigit() and 0 < int(s) < 65536 for s in sides):
            self.fail(f"{value!r} is not a size such as 96x64")
        return int(sides[0]), int(sides[-1])


class Steps(click.ParamType):
    """A number of levels of noise, or one of some words."""

    name = "T"

    def __init__(self, *words: str):
        self.words = words

    def convert(self, value, param, ctx):
        if value in self.words or isinstance(value, int):
            return value
        if not (value.isascii() and value.isdigit() and int(value) >= 2):
            self.fail(f"{value!r} is not a number of steps (2 or more), or {' or '.join(self.words)}")
        return int(value)

    def shell_complete(self, ctx, param, incomplete):
        return [CompletionItem(word) for word in self.words if word.startswith(incomplete)]
