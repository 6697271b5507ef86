"""Tests, in the folders of what they test."""

from codec.process import share_cores

share_cores()
