"""The file format: a header of 6 to 12 bytes, the payload's plain bits, a checksum. docs/format.md has it byte by byte.

A header is checked before anything is believed or allocated; what follows from it (the length of a whole file) is
checked next, the payload last. A file that is shorter than it should be is a prefix, not an error.
"""

from __future__ import annotations

from binascii import crc_hqx
from collections.abc import Callable
from dataclasses import dataclass

from codec.errors import DamagedFile, NotOurFile, UnknownModel
from codec.lossy.plan import STRIDES, Profile

MAGIC = 0xDC
VERSION = 4
TRAILER = 2  # bytes of payload checksum at the end of a whole file

# Modes, and what their files have behind the messages, which are plain bits.
PARTS = {
    "lossy": (),
    "lossless": ("pixels",),
    "lossless, with alpha": ("alpha", "pixels"),
    "stored": ("picture",),
}
MODES = {"lossy": 0, "lossless": 1, "stored": 2}
EXTENDED = 3  # in the place of a mode: that, the stride and the extras stand in the next byte
EXTRAS = ("alpha", "icc", "exif", "xmp")  # bits of that byte, from the lowest; the mode is above them, 2 bits
MODEL = 2  # bytes of its fingerprint
STRIDE_AT = len(EXTRAS) + 2  # above the mode
METADATA = 1 << 24  # bytes, at most, of each of these


@dataclass(frozen=True)
class Header:
    """What a file says of itself.

    model: the first bytes of the model's fingerprint; none if stored.
    extras: of ``icc``, ``exif`` and ``xmp``. colour: the mean of a stored picture, one level or three. stride: see
    ``Plan``.
    """

    model: bytes
    height: int
    width: int
    profile: Profile
    steps: int
    grey: bool = False
    seed: int = 0
    mode: str = "lossy"
    extras: tuple[str, ...] = ()
    colour: bytes = b""
    stride: int = 1

    @property
    def stored(self) -> bool:
        """Whether the picture stands in the file as it is; no model is needed."""
        return self.mode == "stored"

    @property
    def lossless(self) -> bool:
        """Whether the whole file has the very pixels."""
        return self.stored or self.mode.startswith("lossless")

    @property
    def parts(self) -> tuple[str, ...]:
        """What stands behind the messages, each with its length; a profile comes before them."""
        *before, last = PARTS[self.mode] or (None,)
        between = [name for name in ("exif", "xmp") if name in self.extras]
        return (*before, *between, *([last] if last else []))

    def pack(self, native: int | None = None) -> bytes:
        """The header's bytes, checksum included. ``native``: the side of the square that needs no size."""
        if not (1 <= self.height <= 65535 and 1 <= self.width <= 65535):
            raise ValueError(f"sizes are 1 to 65535, not {self.width}x{self.height}")
        if not 1 <= self.stride <= STRIDES:
            raise ValueError(f"strides are 1 to {STRIDES}, not {self.stride}")
        size = self.height, self.width
        form = 0 if size == (native, native) and not self.stored else 1 if max(size) <= 255 else 2
        known = {*self.extras, *(["alpha"] if "alpha" in PARTS[self.mode] else [])}
        mode = MODES[self.mode.removesuffix(", with alpha")]
        extended = bool(known) or self.stride > 1
        first = EXTENDED if extended else mode
        flags = (VERSION - 1) << 6 | first << 4 | self.grey << 3 | (self.seed > 0) << 2 | form
        fields = bytes([MAGIC, flags])
        if extended:
            extras = sum(1 << i for i, name in enumerate(EXTRAS) if name in known)
            fields += bytes([(self.stride - 1) << STRIDE_AT | mode << len(EXTRAS) | extras])
        if not self.stored:
            spending = self.steps << 10 | self.profile.factor << 3 | self.profile.tilt
            fields += self.model[:MODEL] + spending.to_bytes(2, "big")
        fields += b"".join(n.to_bytes(form, "big") for n in size) if form else b""
        fields += varint(self.seed) if self.seed else b""
        fields += self.colour
        return fields + bytes([crc8(fields)])

    @staticmethod
    def unpack(data: bytes, native: Callable[[bytes], int | None] | None = None) -> tuple[Header, int]:
        """Header and its length in bytes. ``native``: model bytes -> side of its native square, or None.

        Raises NotOurFile, or DamagedFile where the checksum or a field is wrong or the header itself is cut.
        """
        if not data or data[0] != MAGIC:
            raise NotOurFile("not a ddpm-codec file")
        fields = Fields(data)
        _, flags = fields.take(2)
        version, form, grey, number, known = (flags >> 6) + 1, flags & 3, bool(flags & 8), flags >> 4 & 3, 0
        stride = 1
        if version != VERSION:
            raise NotOurFile(f"a file of format version {version}; this program reads version {VERSION}")
        if number == EXTENDED:
            rest, known = divmod(fields.take(1)[0], 1 << len(EXTRAS))
            stride, number = (rest >> 2) + 1, rest & 3
        mode = next((name for name, n in MODES.items() if n == number), None)
        model, spending = (b"", 0) if mode == "stored" else (fields.take(MODEL), fields.number(2))
        size = [fields.number(form), fields.number(form)] if form in (1, 2) else []
        seed = fields.varint() if flags & 4 else 0
        colour = fields.take(1 if grey else 3) if mode == "stored" else b""
        at = fields.at
        if crc8(data[:at]) != fields.take(1)[0]:
            raise DamagedFile("the header is damaged (checksum)")
        extras = tuple(name for i, name in enumerate(EXTRAS) if known >> i & 1)
        unknown = mode != "lossless" and "alpha" in extras
        if form == 3 or mode is None or unknown or (mode == "stored" and (form == 0 or seed or stride > 1)):
            raise NotOurFile("a kind of ddpm-codec file that this program does not know")
        if "alpha" in extras:
            mode, extras = "lossless, with alpha", tuple(name for name in extras if name != "alpha")
        height, width = size or [native_side(model, native)] * 2
        if not height or not width:
            raise DamagedFile("the header gives an empty size")
        profile = Profile(spending >> 3 & 127, spending & 7)
        return Header(model, height, width, profile, spending >> 10, grey, seed, mode, extras, colour, stride), at + 1


class Fields:
    """The fields of a header one after the other; DamagedFile where they end too soon."""

    def __init__(self, data: bytes):
        self.data, self.at = data, 0

    def take(self, n: int) -> bytes:
        if self.at + n > len(self.data):
            raise DamagedFile("the file ends inside its header")
        self.at += n
        return self.data[self.at - n : self.at]

    def number(self, n: int) -> int:
        return int.from_bytes(self.take(n), "big")

    def varint(self) -> int:
        value, end = unpack_varint(self.data, self.at)
        self.take(end - self.at)
        return value


def native_side(model: bytes, native: Callable[[bytes], int | None] | None) -> int:
    """The side of the square that a model's files need not say; UnknownModel if no model is known."""
    side = native(model) if native else None
    if side is None:
        raise UnknownModel(
            f"the file leaves its size to a model whose fingerprint begins with {model.hex()}, and none here "
            "does; give it with --model"
        )
    return side


def model_bytes(data: bytes) -> bytes | None:
    """The first bytes of the fingerprint that a file names, none if it needs no model; None if it has no header."""
    if len(data) < 3 or data[0] != MAGIC or data[1] >> 6 != VERSION - 1:
        return None
    mode, at = data[1] >> 4 & 3, 2
    if mode == EXTENDED:
        mode, at = data[2] >> len(EXTRAS) & 3, 3
    return b"" if mode == MODES["stored"] else data[at : at + MODEL]


def pack_corrections(header: bytes, corrections: bytes) -> bytes:
    """What a payload begins with if some of its steps are long: their corrections and a CRC-8 over header and these."""
    return corrections + bytes([crc8(header + corrections)]) if corrections else b""


def unpack_corrections(data: bytes, at: int, count: int) -> tuple[bytes, int]:
    """The ``count`` corrections after a header of ``at`` bytes, neutral ones if cut, and where the messages begin."""
    if not count:
        return b"", at
    end = at + count
    if len(data) <= end:
        return bytes([128]) * count, end + 1
    if crc8(data[:end]) != data[end]:
        raise DamagedFile("the file is damaged (checksum of the corrections)")
    return data[at:end], end + 1


def pack_part(header: bytes, part: bytes) -> bytes:
    """A part of lossless files behind its length, which has a CRC-8 of its own (over the header and it)."""
    length = varint(len(part))
    return length + bytes([crc8(header + length)]) + part


def unpack_part(data: bytes, header: bytes, at: int) -> tuple[int, int]:
    """Length and place of the part that is announced at a place, (0, behind the end) if that is cut."""
    length, end = unpack_varint(data, at)
    if end >= len(data):
        return 0, len(data) + 1
    if crc8(header + data[at:end]) != data[end]:
        raise DamagedFile("the file is damaged (checksum of a length)")
    return length, end + 1


def unpack_varint(data: bytes, at: int) -> tuple[int, int]:
    """The number that begins at a place, and the place behind it; behind the end if the number is cut."""
    n = 0
    for shift in range(0, 63, 7):
        if at >= len(data):
            return n, len(data) + 1
        n |= (data[at] & 127) << shift
        at += 1
        if data[at - 1] < 128:
            break
    return n, at


def varint(n: int) -> bytes:
    """Base-128 digits, lowest first; the high bit says that more follow."""
    out = bytearray()
    while n > 127:
        out.append(n & 127 | 128)
        n >>= 7
    return bytes([*out, n])


def crc8(data: bytes) -> int:
    """CRC-8 (polynomial 0x07): catches every error of up to 8 neighbouring bits.

    >>> hex(crc8(b"123456789"))
    '0xf4'
    """
    crc = 0
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc << 1 ^ 0x07) & 255 if crc & 128 else crc << 1
    return crc


def checksum(header: bytes, payload: bytes, fingerprint: bytes) -> bytes:
    """The two bytes that close a whole file: CRC-16 of the model's fingerprint, the header and the payload."""
    return crc_hqx(payload, crc_hqx(header, crc_hqx(fingerprint, 0xFFFF))).to_bytes(2, "big")
