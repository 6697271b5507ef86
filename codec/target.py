"""What the user asks for: the size of a file, its quality, or the very pixels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .errors import CodecError

ENOUGH = 1 << 60  # bytes, more than any file has
QUALITY = 50  # where nothing is asked for
MAX_ERROR = 100  # grey levels
EFFORTS = 4  # the last takes every step
COARSEST, FINEST = 2.0, -9.2  # gamma where quality 0 and 100 end: a picture can be made out, and the lossy code's end


def stride_of(effort: int) -> int:
    """How many levels of noise a step of the chain spans, where steps take their time; CodecError."""
    if not isinstance(effort, (int, np.integer)) or not 1 <= effort <= EFFORTS:
        raise CodecError(f"an effort is a whole number from 1 to {EFFORTS}, not {effort!r}")
    return EFFORTS + 1 - effort


@dataclass(frozen=True)
class Target:
    """Exactly one of: bits_per_dim, bits_per_pixel, bytes (each of the whole file), psnr (dB), steps of the chain.

    Or lossless: the very pixels. Or max_error: pixels that are all within so many grey levels. Or quality, 0 to 100:
    the steps to a level of noise, gamma from COARSEST to FINEST, which is the same for pictures of any size and about
    the same with any model. An equal level gives a set of pictures the best trade-off over the set. Where the exact
    picture can be stored in less than any of these costs, it is; steps are taken whatever they cost.
    """

    bits_per_dim: float | None = None
    bits_per_pixel: float | None = None
    bytes: int | None = None
    psnr: float | None = None
    steps: int | None = None
    lossless: bool = False
    quality: float | None = None
    max_error: int | None = None

    def __post_init__(self):
        if self.psnr == math.inf and not self.lossless:
            object.__setattr__(self, "lossless", True)
            object.__setattr__(self, "psnr", None)
        given = [self.bits_per_dim, self.bits_per_pixel, self.bytes, self.psnr, self.steps]
        given += [self.quality, self.max_error, True if self.lossless else None]
        given = [v for v in given if v is not None]
        if len(given) != 1:
            known = "a quality, a rate, a number of bytes, a PSNR, a number of steps, lossless, a greatest error"
            raise CodecError(f"say exactly one of: {known}")
        if not isinstance(given[0], (int, float, np.integer, np.floating)):
            raise CodecError(f"a target is a number, not {given[0]!r}")
        if self.steps is not None and not isinstance(self.steps, (int, np.integer)):
            raise CodecError(f"a number of steps is a whole number, not {self.steps!r}")
        if self.max_error is not None:
            if not isinstance(self.max_error, (int, np.integer)) or not 0 <= self.max_error <= MAX_ERROR:
                raise CodecError(f"a greatest error is a whole number of grey levels from 0 to {MAX_ERROR}")
            return
        if self.quality is not None and not 0 <= self.quality <= 100:
            raise CodecError("a quality is a number from 0 to 100")
        if self.quality is None and not (math.isfinite(given[0]) and given[0] > 0):
            raise CodecError("a rate, a number of bytes, a PSNR or a number of steps is a positive number")

    @property
    def mse(self) -> float | None:
        return None if self.psnr is None else 255**2 * 10 ** -(self.psnr / 10)

    def resolved(self, gammas: Sequence[float]) -> Target:
        """A quality as steps of a chain that goes through these descending levels: to the first that is as low."""
        if self.quality is None:
            return self
        level = COARSEST + (FINEST - COARSEST) * self.quality / 100
        return Target(steps=next((k for k, gamma in enumerate(gammas) if gamma <= level + 1e-6), len(gammas) - 1))

    @property
    def limited(self) -> bool:
        """Whether the size of the file is what is asked for."""
        return any(v is not None for v in (self.bits_per_dim, self.bits_per_pixel, self.bytes))

    def file_bytes(self, dims: int, pixels: int, overhead: int) -> float:
        """Bytes of the whole file, at most; infinite if its size is not the target.

        CodecError if that is less than ``overhead``, the bytes of the smallest.
        """
        if not self.limited:
            return math.inf
        unit = {"bits/dim": 8 / dims, "bits/pixel": 8 / pixels, "bytes": 1.0}
        name, asked = next(
            (n, v) for n, v in zip(unit, (self.bits_per_dim, self.bits_per_pixel, self.bytes)) if v is not None
        )
        budget = math.floor(min(asked / unit[name] * (1 + 1e-12), ENOUGH))
        if budget < overhead:
            least = math.ceil(overhead * unit[name] * 1e4) / 1e4
            as_asked = "" if name == "bytes" else f", {least:g} {name}"
            raise CodecError(f"the smallest file of this picture has {overhead} bytes{as_asked}")
        return budget
