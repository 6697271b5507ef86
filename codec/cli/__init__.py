"""The command line: every command parses, calls the library, prints."""

from .app import cli, main

__all__ = ["cli", "main"]
