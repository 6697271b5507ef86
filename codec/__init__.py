"""Turns a diffusion model into bits: channel simulation, code stream, files. Imports ddpm, never bench."""

from .api import Codec, Decoded, Encoded, Info, decode, inspect
from .errors import CodecError
from .ratecontrol import Target

__all__ = ["Codec", "CodecError", "Decoded", "Encoded", "Info", "Target", "decode", "inspect"]
