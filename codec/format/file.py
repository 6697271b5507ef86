"""A whole file: packed from its parts, and unpacked again, whole or cut, before anything is believed or allocated.

header | profile of the colours | corrections | messages | the other parts | checksum
"""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from codec.errors import CodecError, DamagedFile
from codec.images.alpha import split
from codec.lossless import part as pixels
from codec.lossy.plan import FREE, MEAN, Allotment, Plan
from ddpm.files import inflated

from . import stored
from .container import (
    METADATA,
    TRAILER,
    Header,
    checksum,
    pack_corrections,
    pack_part,
    unpack_corrections,
    unpack_part,
)

if TYPE_CHECKING:
    from ddpm.models.model import DDPM


@dataclass(frozen=True)
class Maker:
    """The model of a file, as far as the file depends on it. native: the side of the square whose size is not said."""

    name: str
    fingerprint: bytes
    native: int | None = None

    @classmethod
    def of(cls, model: DDPM) -> Maker:
        return cls(model.name, model.fingerprint, model.config.get("native"))


NOBODY = Maker("none", b"")  # of stored pictures, which need no model


@dataclass(frozen=True)
class Info:
    """What can be told of a file without decoding it. A stored picture needs no model and has no steps."""

    header: Header
    model: str
    header_bytes: int
    side_bytes: int  # before the first message: the header, a profile of colours and the corrections
    file_bytes: int
    whole_bytes: int | None  # length of the file before anything was cut, if what is left says so
    dims: int
    steps: int  # complete ones in these bytes
    gamma: float  # log noise-to-signal ratio reached
    complete: bool
    free: bool  # whether each step says itself how many bits it has; the header's profile then means nothing


@dataclass(frozen=True)
class Opened:
    """A file that has been checked. parts: what is there and whole beside the messages, see ``Header.parts``; begun:
    the one that is cut."""

    info: Info
    allotment: Allotment
    messages: bytes
    parts: dict[str, tuple[int, int]]  # first byte, and end
    begun: dict[str, tuple[int, int]]

    @property
    def bits(self) -> np.ndarray:
        """Those of the messages that are there, uint8 of 0 and 1."""
        return np.unpackbits(np.frombuffer(self.messages, np.uint8))[: self.allotment.total]


def pack(header: Header, corrections: bytes, messages: bytes, parts: dict[str, bytes], maker: Maker) -> bytes:
    """The file of these parts. ``parts``: ``icc`` if there is a profile, and those of ``Header.parts``."""
    head = header.pack(maker.native)
    front = head + (pack_part(head, parts["icc"]) if "icc" in header.extras else b"")
    body = front[len(head) :] + pack_corrections(front, corrections) + messages
    body += b"".join(pack_part(head, parts[name]) for name in header.parts)
    return head + body + checksum(head, body, maker.fingerprint)


def unpack(data: bytes, header: Header, at: int, plan: Plan, maker: Maker) -> Opened:
    """The parts of a file, whole or cut. Its header takes ``at`` bytes; plan: the model's for pictures of its size."""
    head, size, parts = data[:at], (header.height, header.width), {}
    if "icc" in header.extras:
        parts["icc"] = place_part(data, head, at, "icc", size)
    front = parts["icc"][1] if "icc" in parts else at
    corrections, start = unpack_corrections(data, front, Allotment.count_long(plan, header.profile, header.steps))
    allotment = Allotment(plan, header.profile, header.steps, corrections)
    whole = end = start + -(-allotment.total // 8)  # of the messages
    for name in header.parts:
        parts[name] = place_part(data, head, whole, name, size)
        whole = parts[name][1]
    whole += TRAILER
    if len(data) > whole:
        raise DamagedFile(f"the file is longer than its content ({len(data)} bytes, not {whole})")
    complete, last = len(data) == whole, whole - TRAILER
    if complete and data[last:] != checksum(head, data[at:last], maker.fingerprint):
        raise DamagedFile("the file is damaged (checksum), or was made with another model")
    messages = data[start : min(end, last)]
    steps = allotment.complete(8 * len(messages))
    info = Info(
        header=header,
        model=maker.name,
        header_bytes=at,
        side_bytes=start,
        file_bytes=len(data),
        whole_bytes=whole if start <= len(data) and all(begin <= len(data) for begin, _ in parts.values()) else None,
        dims=plan.dims,
        steps=steps,
        gamma=plan.gammas[steps],
        complete=complete,
        free=header.profile == FREE,
    )
    there = {name: ends for name, ends in parts.items() if ends[1] <= len(data)}
    begun = {name: (begin, len(data)) for name, (begin, end) in parts.items() if begin <= len(data) < end}
    return Opened(info, allotment, messages, there, begun)


def place_part(data: bytes, head: bytes, begin: int, name: str, size: tuple[int, int]) -> tuple[int, int]:
    """Where a part lies that is announced at ``begin``: its first byte, and end. size: height, width of the picture."""
    length, begin = unpack_part(data, head, begin)
    most = {"pixels": pixels.longest(size), "alpha": stored.longest(size), "picture": stored.longest(size)}
    if length > most.get(name, METADATA):
        raise DamagedFile("a part of the file is longer than any could be")
    return begin, begin + length


def open_stored(data: bytes, max_pixels: int) -> Opened:
    """A file of a stored picture, whole or cut."""
    header, at = Header.unpack(data)
    check_pixels(header, max_pixels)
    dims = header.height * header.width * (1 if header.grey else 3)
    plan = Plan(dims, (math.inf, 0.0, -1.0), ((0, 0, 0),) * (MEAN.tilt + 1), 0)
    return unpack(data, header, at, plan, NOBODY)


def check_pixels(header: Header, max_pixels: int) -> None:
    """CodecError for a picture that is too large."""
    if header.height * header.width > max_pixels:
        raise CodecError(f"{header.width}x{header.height} pixels; at most {max_pixels} (see --max-pixels)")


def stored_picture(data: bytes, file: Opened, whole: bool = True, scale: int = 1) -> np.ndarray:
    """The stored picture, ``scale`` times smaller without transparency; its mean colour if cut, or not ``whole``."""
    h = file.info.header
    size = h.height, h.width
    part = data[slice(*file.parts["picture"])] if whole and file.info.complete else b""
    array = stored.unpack(part, h.colour, size)
    return array if scale == 1 else stored.smaller(np.ascontiguousarray(split(array)[0]), scale)


def metadata_of(data: bytes, file: Opened) -> dict[str, bytes]:
    """The profile of colours, EXIF and XMP, as far as the file has them whole."""
    found = {name: data[slice(*ends)] for name, ends in file.parts.items() if name in ("icc", "exif", "xmp")}
    if "icc" in found:
        try:
            found["icc"] = inflated(found["icc"], METADATA)
        except (zlib.error, ValueError):
            raise DamagedFile("the profile of the colours is damaged") from None
    return found
