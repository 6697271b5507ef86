"""Turns a diffusion model into bits: channel simulation, code stream, files. Imports ddpm, never bench."""

from typing import TYPE_CHECKING

from .errors import CodecError
from .target import Target

if TYPE_CHECKING:
    from .api import Codec, Decoded, Encoded, Info, decode, inspect

__all__ = ["Codec", "CodecError", "Decoded", "Encoded", "Info", "Target", "decode", "inspect"]


def __getattr__(name: str):
    """The rest of the interface comes with torch, which takes seconds to import: when it is asked for (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import api

    return getattr(api, name)
