"""Measurements: each module is a command that writes JSON first and pictures from it. Imports codec and ddpm."""

from codec.cli.console import share_cores

share_cores()
