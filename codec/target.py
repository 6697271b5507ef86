"""What the user asks for: the size of a file, its quality, or the very pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass

from .errors import CodecError


@dataclass(frozen=True)
class Target:
    """Exactly one of: bits_per_dim, bits_per_pixel, bytes (each of the whole file), psnr (dB), steps of the chain.

    Or lossless: all steps, and the very pixels. An equal number of steps gives a set of pictures an equal noise level,
    the best trade-off over the set.
    """

    bits_per_dim: float | None = None
    bits_per_pixel: float | None = None
    bytes: int | None = None
    psnr: float | None = None
    steps: int | None = None
    lossless: bool = False

    def __post_init__(self):
        given = [
            v for v in (self.bits_per_dim, self.bits_per_pixel, self.bytes, self.psnr, self.steps) if v is not None
        ]
        given += [1] * self.lossless
        if len(given) != 1:
            raise CodecError("say exactly one of: a rate, a number of bytes, a PSNR, a number of steps")
        if not (math.isfinite(given[0]) and given[0] > 0):
            raise CodecError("a rate, a number of bytes, a PSNR or a number of steps is a positive number")

    @property
    def mse(self) -> float | None:
        return None if self.psnr is None else 255**2 / 10 ** (self.psnr / 10)

    def payload_bits(self, dims: int, pixels: int, overhead: int) -> float:
        """Bits left for the payload after ``overhead`` bytes; infinite for a PSNR or steps. CodecError if none are."""
        if self.psnr is not None or self.steps is not None or self.lossless:
            return math.inf
        unit = {"bits/dim": 8 / dims, "bits/pixel": 8 / pixels, "bytes": 1.0}
        name, asked = next(
            (n, v) for n, v in zip(unit, (self.bits_per_dim, self.bits_per_pixel, self.bytes)) if v is not None
        )
        budget = math.floor(asked / unit[name] * (1 + 1e-12))
        if budget < overhead:
            least = math.ceil(overhead * unit[name] * 1e4) / 1e4
            as_asked = "" if name == "bytes" else f", {least:g} {name}"
            raise CodecError(f"the smallest file of this picture has {overhead} bytes{as_asked}")
        return 8 * (budget - overhead)
