"""The command line in this process."""

import sys

import pytest

from codec.cli import main


def exit_code(monkeypatch, *words) -> int:
    """What ``ddpm-codec WORDS`` ends with."""
    monkeypatch.setattr(sys, "argv", ["ddpm-codec", *map(str, words)])
    try:
        return main() or 0
    except SystemExit as e:
        return e.code or 0


@pytest.fixture
def command(monkeypatch, capsys, models):
    """Called with words: exit code, stdout, stderr."""
    return lambda *words: (exit_code(monkeypatch, *words), *capsys.readouterr())
