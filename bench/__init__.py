"""Measurements: each module is a command that writes JSON first and pictures from it. Imports codec and ddpm."""

from codec.process import share_cores

share_cores()
