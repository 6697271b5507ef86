"""Files of one setting on their way to pictures; the mirror of encoder.py."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from PIL import Image

from codec.format.container import Header
from codec.format.file import Opened, metadata_of, stored_picture
from codec.images import alpha
from codec.lossless import adaptive, last
from codec.lossy import progressive
from codec.lossy.progressive import Progress
from codec.lossy.reconstruct import RECONSTRUCTIONS, show, show_small, steps_for
from codec.lossy.setting import Setting

from .errors import CodecError


@dataclass(frozen=True)
class Decoded:
    """A picture; ``complete`` if the file was whole and its checksum right.

    uint8 (H, W, 3), or (H, W) for grey; with transparency (H, W, 4) or (H, W, 2).
    """

    array: np.ndarray
    header: Header
    complete: bool
    steps: int
    icc: bytes | None = None  # the profile of its colours, if they are not those of sRGB
    exif: bytes | None = None
    xmp: bytes | None = None

    @property
    def image(self) -> Image.Image:
        image = Image.fromarray(self.array)
        image.info |= {k: v for k, v in {"icc_profile": self.icc, "exif": self.exif, "xmp": self.xmp}.items() if v}
        return image


@dataclass(frozen=True)
class View:
    """So much of a file as shall be shown: its first ``most`` bytes, as a picture ``scale`` times smaller."""

    data: bytes
    file: Opened
    most: float
    scale: int

    @classmethod
    def of(cls, data: bytes, file: Opened, rate: float | None, max_size: int | None) -> View:
        """rate: bits/dim that are used. max_size: pixels a side; see ``Codec.decode``."""
        most = math.inf if rate is None else rate * file.info.dims / 8
        longest = max(file.info.header.height, file.info.header.width)
        scale = 1 if max_size is None else -(-longest // max_size)
        return cls(data, file, math.floor(most) if math.isfinite(most) else most, scale)

    @property
    def header(self) -> Header:
        return self.file.info.header

    @property
    def kind(self) -> Hashable:
        """What files have in common that are decoded together."""
        h = self.header
        return h.stored or (h.height, h.width, h.grey, h.seed, h.stride, self.steps, self.lossless)

    @cached_property
    def bits(self) -> np.ndarray:
        """Of the messages, uint8 of 0 and 1."""
        bits = self.file.bits
        return bits if math.isinf(self.most) else bits[: 8 * max(0, int(self.most) - self.file.info.side_bytes)]

    @property
    def lossless(self) -> bool:
        """Whether the very pixels are shown."""
        info = self.file.info
        return "pixels" in self.file.parts and info.complete and self.scale == 1 and self.most >= info.file_bytes

    @property
    def first_pixels(self) -> bytes:
        """As much of the pixels as is there, where they come row by row and not all are shown; behind the end zeros."""
        begin, end = (self.file.parts | self.file.begun).get("pixels", (0, 0))
        if self.steps != self.header.steps or self.steps == self.file.allotment.plan.steps or self.scale > 1:
            return b""
        whole = "pixels" in self.file.parts and self.most >= end
        return b"" if self.lossless else self.data[begin : int(min(end, self.most))] + bytes(4 * whole)

    @property
    def steps(self) -> int:
        """Of the chain, that are taken."""
        if self.header.stored:
            return 0
        steps = self.file.allotment.reach(len(self.bits))
        return steps if self.scale == 1 else min(steps, steps_for(self.file.allotment.plan, self.scale))

    def decoded(self, array: np.ndarray) -> Decoded:
        """With what the file has beside the colours, as far as it is shown."""
        size, clear = (self.header.height, self.header.width), self.file.parts.get("alpha")
        if clear and clear[1] <= self.most and array.shape[:2] == size:
            array = alpha.joined(array, alpha.unpack(self.data[slice(*clear)], size))
        beside = metadata_of(self.data, self.file)
        return Decoded(array, self.header, self.file.info.complete, self.steps, **beside)


def decode(setting: Setting, views: Sequence[View], recon: str, progress: Progress | None) -> list[Decoded]:
    """Views of one setting, which go as far down the chain and are all lossless, or none."""
    first, allotments = views[0], [view.file.allotment for view in views]
    chain = progressive.decode(setting, [view.bits for view in views], allotments, first.steps, progress)
    if first.lossless:
        coded = (view.data[slice(*view.file.parts["pixels"])] for view in views)
        arrays = [last.decode(setting, first.steps, z, part) for z, part in zip(chain.seen(), coded)]
    else:
        seen = list(chain.seen()) if any(view.first_pixels for view in views) else []
        arrays = show(chain, recon) if first.scale == 1 else show_small(chain, first.scale)
        arrays = arrays[..., 0] if setting.grey else arrays
        for view, z, array in zip(views, seen, arrays):
            rows = adaptive.first_rows(setting, first.steps, z, view.first_pixels)
            array[: len(rows)] = rows
    return [view.decoded(array) for view, array in zip(views, arrays)]


def decode_stored(view: View) -> Decoded:
    """The stored picture; its mean colour if it is cut, or not shown whole."""
    whole = view.most >= view.file.info.file_bytes
    return view.decoded(stored_picture(view.data, view.file, whole=whole, scale=view.scale))


def check_options(recon: str, rate: float | None, max_size: int | None) -> None:
    """CodecError for what ``Codec.decode`` does not know."""
    if recon not in RECONSTRUCTIONS:
        raise CodecError(f"a reconstruction is one of {', '.join(RECONSTRUCTIONS)}, not {recon!r}")
    if rate is not None and (not isinstance(rate, (int, float, np.integer, np.floating)) or not rate >= 0):
        raise CodecError(f"a rate is a number of bits/dim, not {rate!r}")
    if max_size is not None and not isinstance(max_size, (int, np.integer)):
        raise CodecError(f"a size is a whole number of pixels, not {max_size!r}")
    if max_size is not None and max_size < 1:
        raise CodecError("a picture has at least one pixel a side")
    if max_size is not None and recon != "mean":
        raise CodecError(f"a smaller picture is only made with recon mean, not {recon}")
