"""What files say beside their pixels: bits per channel, profile, EXIF, XMP; and the same files without the latter.

Picture libraries give 8 bits of what has more without a word, and stumble over metadata that the pixels do not need.
"""

from __future__ import annotations

import re
import struct
import zlib
from contextlib import suppress
from dataclasses import dataclass, field

from ddpm.files import inflated

LIMIT = 1 << 24  # bytes of a compressed profile or text when it is unpacked
DAMAGE = (struct.error, IndexError, ValueError, KeyError, zlib.error)


@dataclass
class Beside:
    """What a file says beside its pixels; ``bare`` is what a picture library has to see of it."""

    bare: bytes
    bits: int = 8  # per channel, the most
    icc: bytes | None = None
    turn: int = 0  # EXIF's orientation where it does not stand in ``exif``
    exif: bytes | None = None
    xmp: bytes | None = None
    cicp: tuple[int, int, int] | None = None  # primaries, transfer, full range, by ITU-T H.273
    avif: bool = False  # then a profile goes before these
    srgb: bool = False
    gamma: float | None = None  # of the file: below 1
    chromaticities: tuple[float, ...] | None = None  # white, red, green, blue: x, y
    transparent: tuple[int, ...] | None = None  # the colour of a PNG without a palette that is transparent
    trouble: list[str] = field(default_factory=list)
    size: tuple[int, int] | None = None  # width, height, where it must be known before the library opens the file


def beside(data: bytes) -> Beside:
    """Of any file; what is no known kind, or damaged, is left to the picture library."""
    out = Beside(data)
    for magic, at, read in KINDS:
        if data[at : at + len(magic)] == magic:
            with suppress(*DAMAGE):
                read(data, out)
            break
    return out


def _png(data: bytes, out: Beside) -> None:
    kept, at, colour = [data[:8]], 8, None
    while at + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length
        if end > len(data):
            break
        body = data[at + 8 : end - 4]
        if kind == b"IHDR":
            out.bits, colour = body[8], body[9]
        if kind == b"IEND":
            break
        if not kind[0] & 32 or kind in (b"acTL", b"fcTL", b"fdAT") or (kind == b"tRNS" and colour == 3):
            kept.append(data[at:end])
        else:
            try:
                if struct.unpack_from(">I", data, end - 4)[0] != zlib.crc32(data[at + 4 : end - 4]):
                    raise ValueError("checksum")
                _png_chunk(kind, body, colour, out)
            except DAMAGE:
                if kind in (b"iCCP", b"cICP", b"gAMA", b"cHRM", b"tRNS"):
                    out.trouble.append(f"its {kind.decode()} chunk is damaged and has been left out")
        at = end
    out.bare = b"".join([*kept, data[at:]])


def _png_chunk(kind: bytes, body: bytes, colour: int | None, out: Beside) -> None:
    if kind == b"iCCP" and out.icc is None:
        out.icc = inflated(body[body.index(0) + 2 :], LIMIT)
    elif kind == b"cICP":
        primaries, transfer, matrix, full = body
        if matrix:
            raise ValueError
        out.cicp = primaries, transfer, full
    elif kind == b"sRGB":
        out.srgb = True
    elif kind == b"gAMA":
        out.gamma = struct.unpack(">I", body)[0] / 1e5
    elif kind == b"cHRM":
        out.chromaticities = tuple(v / 1e5 for v in struct.unpack(">8I", body))
    elif kind == b"tRNS" and colour in (0, 2):
        top = (1 << out.bits) - 1
        values = struct.unpack(">H" if colour == 0 else ">3H", body)
        out.transparent = tuple((v & top) * 255 // top for v in values)
    elif kind == b"eXIf":
        out.exif = body
    elif kind in (b"tEXt", b"zTXt", b"iTXt"):
        _png_text(kind, body, out)


def _png_text(kind: bytes, body: bytes, out: Beside) -> None:
    name, _, rest = body.partition(b"\0")
    if kind == b"iTXt" and name == b"XML:com.adobe.xmp":
        packed, text = rest[0], rest[2:].split(b"\0", 2)[2]
        out.xmp = inflated(text, LIMIT) if packed else text
    elif name in (b"Raw profile type exif", b"Raw profile type APP1") and out.exif is None:
        text = inflated(rest[1:], LIMIT) if kind == b"zTXt" else rest
        exif = bytes.fromhex(text.split(b"\n", 3)[3].decode("ascii"))
        out.exif = exif if exif.startswith((b"Exif", b"II", b"MM")) else None


def _jpeg(data: bytes, out: Beside) -> None:
    kept, at, parts = [data[:2]], 2, {}
    while data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # filling
            at += 1
            continue
        if marker in (0xDA, 0xD9) or 0xD0 <= marker <= 0xD8 or marker == 1:
            break
        end = at + 2 + struct.unpack_from(">H", data, at + 2)[0]
        if end > len(data):
            break
        body = data[at + 4 : end]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            out.bits = body[0]
        if marker == 0xE1 and body.startswith(b"Exif\0\0") and out.exif is None:
            out.exif = body
        elif marker == 0xE1 and body.startswith(b"http://ns.adobe.com/xap/1.0/\0") and out.xmp is None:
            out.xmp = body[29:]
        elif marker == 0xE2 and body.startswith(b"ICC_PROFILE\0") and len(body) > 14:
            parts[body[12]] = body[14:]
        if not 0xE1 <= marker <= 0xED and marker not in (0xEF, 0xFE):
            kept.append(data[at:end])
        at = end
    out.bare = b"".join([*kept, data[at:]])
    if parts:
        out.icc = b"".join(parts[k] for k in sorted(parts))


def _webp(data: bytes, out: Beside) -> None:
    at = 12
    while at + 8 <= len(data):
        kind, length = struct.unpack_from("<4sI", data, at)
        body = data[at + 8 : at + 8 + length]
        if kind == b"VP8X":
            out.size = 1 + int.from_bytes(body[4:7], "little"), 1 + int.from_bytes(body[7:10], "little")
        elif kind == b"ICCP":
            out.icc = body
        elif kind == b"EXIF":
            out.exif = body
        elif kind == b"XMP ":
            out.xmp = body
        at += 8 + length + length % 2


# Of a TIFF's first directory what no pixel depends on: orientation, XMP, IPTC, Photoshop's, ICC profile, EXIF, GPS.
TIFF_EXTRA = {274, 700, 33723, 34377, 34665, 34675, 34853}


def _tiff(data: bytes, out: Beside) -> None:
    order = "<" if data[:2] == b"II" else ">"
    big = struct.unpack_from(order + "H", data, 2)[0] == 43
    number, one, head = ("Q", 20, 8) if big else ("I", 12, 2)
    (at,) = struct.unpack_from(order + number, data, 8 if big else 4)
    (count,) = struct.unpack_from(order + ("Q" if big else "H"), data, at)
    end = at + head + one * count
    link = data[end : end + struct.calcsize(order + number)]
    if end + len(link) > len(data) or not link:
        return
    kept = []
    for i in range(at + head, end, one):
        tag, kind = struct.unpack_from(order + "HH", data, i)
        (n,) = struct.unpack_from(order + number, data, i + 4)
        size = n * {1: 1, 2: 1, 3: 2, 4: 4, 7: 1}.get(kind, 8)
        start = i + one - struct.calcsize(order + number)
        start = start if size <= one - (start - i) else struct.unpack_from(order + number, data, start)[0]
        value = data[start : start + size]
        if tag not in TIFF_EXTRA:
            kept.append(data[i : i + one])
        if tag == 258 and kind == 3:
            out.bits = max(struct.unpack(f"{order}{n}H", value), default=8)
        elif tag == 274 and kind == 3 and n == 1:
            (out.turn,) = struct.unpack(order + "H", value)
        elif tag == 700:
            out.xmp = value
        elif tag == 34675:
            out.icc = value
    table = struct.pack(order + ("Q" if big else "H"), len(kept)) + b"".join(kept) + link
    out.bare = data[:at] + table + bytes(end + len(link) - at - len(table)) + data[end + len(link) :]


def _boxes(data: bytes, at: int, end: int):
    """(kind, first byte of the content, end) of ISO base media boxes, as AVIF and JPEG 2000 have them."""
    while at + 8 <= end:
        size, kind = struct.unpack_from(">I4s", data, at)
        start = at + 8
        if size == 1:
            (size,) = struct.unpack_from(">Q", data, start)
            start += 8
        stop = end if size == 0 else at + size
        if stop < start or stop > end:
            return
        yield kind, start, stop
        at = stop


AV1C = re.compile(b"av1C")


def _avif(data: bytes, out: Beside) -> None:
    """Of the primary picture, where the file says which; else of all that is there."""
    out.avif = True
    for kind, start, end in _boxes(data, 0, len(data)):
        if kind == b"meta":
            _avif_meta(data, start + 4, end, out)
        elif kind == b"moov":  # a sequence
            _avif_bits([(b"av1C", data[m.end() : m.end() + 4]) for m in AV1C.finditer(data, start, end)], out)


def _avif_meta(data: bytes, start: int, end: int, out: Beside) -> None:
    found = {kind: (a, b) for kind, a, b in _boxes(data, start, end)}
    primary, properties, of = None, [], {}
    if b"pitm" in found:
        a, _ = found[b"pitm"]
        (primary,) = struct.unpack_from(">H" if data[a] == 0 else ">I", data, a + 4)
    for kind, a, b in _boxes(data, *found[b"iprp"]):
        if kind == b"ipco":
            properties = [(k, data[x:y]) for k, x, y in _boxes(data, a, b)]
        elif kind == b"ipma":
            of |= _associations(data, a)
    own = [properties[i - 1] for i in of.get(primary, ()) if 0 < i <= len(properties)]
    bits = [p for p in own if p[0] in (b"av1C", b"pixi")]
    _avif_bits(bits or properties, out)
    for kind, body in own or properties:
        if kind == b"colr" and body[:4] == b"nclx":
            primaries, transfer = struct.unpack_from(">HH", body, 4)
            out.cicp = primaries, transfer, 1  # the library takes care of the range
        elif kind == b"colr" and body[:4] in (b"prof", b"rICC"):
            out.icc = body[4:]


def _associations(data: bytes, at: int) -> dict[int, list[int]]:
    """Item -> numbers of its properties, from 1."""
    version, wide = data[at], data[at + 3] & 1
    (count,) = struct.unpack_from(">I", data, at + 4)
    at, out = at + 8, {}
    for _ in range(count):
        (item,) = struct.unpack_from(">H" if version == 0 else ">I", data, at)
        at += 2 if version == 0 else 4
        n, at = data[at], at + 1
        numbers = struct.unpack_from(f">{n}{'H' if wide else 'B'}", data, at)
        out[item] = [v & (0x7FFF if wide else 0x7F) for v in numbers]
        at += n * (2 if wide else 1)
    return out


def _avif_bits(properties, out: Beside) -> None:
    for kind, body in properties:
        if kind == b"av1C":
            out.bits = max(out.bits, 12 if body[2] & 0x20 and body[2] & 0x40 else 10 if body[2] & 0x40 else 8)
        elif kind == b"pixi":
            out.bits = max(out.bits, *body[5 : 5 + body[4]])


def _jp2(data: bytes, out: Beside) -> None:
    for kind, start, end in _boxes(data, 0, len(data)):
        if kind == b"jp2h":
            for inner, a, b in _boxes(data, start, end):
                if inner == b"colr" and data[a] == 2 and out.icc is None:
                    out.icc = data[a + 3 : b]
        elif kind == b"jp2c":
            _codestream(data[start : start + (1 << 16)], out)


def _codestream(data: bytes, out: Beside) -> None:
    """JPEG 2000: the marker SIZ comes first, and has a byte of precision for each component."""
    (count,) = struct.unpack_from(">H", data, 40)
    out.bits = max((data[42 + 3 * i] & 0x7F) + 1 for i in range(count))


def _sgi(data: bytes, out: Beside) -> None:
    out.bits = 8 * data[3]


def _dds(data: bytes, out: Beside) -> None:
    flags, fourcc, _, *masks = struct.unpack_from("<I4s5I", data, 80)
    if fourcc == b"DX10":
        out.bits = 16 if struct.unpack_from("<I", data, 128)[0] in DXGI_DEEP else 8
    elif flags & 4:
        out.bits = 16 if int.from_bytes(fourcc, "little") in D3D_DEEP else 8
    else:
        out.bits = max(8, *(m.bit_count() for m in masks))


def _psd(data: bytes, out: Beside) -> None:
    (out.bits,) = struct.unpack_from(">H", data, 22)


# Formats of DDS with more than 8 bits in some channel: 9 to 32, of floats, BC6H among them.
DXGI_DEEP = {*range(1, 27), *range(33, 48), *range(53, 60), 67, 89, 94, 95, 96, 101, 102, 104, 105, 108, 109}
D3D_DEEP = {31, 34, 35, 36, *range(110, 117)}

KINDS = (
    (b"\x89PNG\r\n\x1a\n", 0, _png),
    (b"\xff\xd8\xff", 0, _jpeg),
    (b"WEBP", 8, _webp),
    (b"II*\0", 0, _tiff),
    (b"MM\0*", 0, _tiff),
    (b"II+\0", 0, _tiff),
    (b"MM\0+", 0, _tiff),
    (b"ftyp", 4, _avif),
    (b"\0\0\0\x0cjP  ", 0, _jp2),
    (b"\xff\x4f\xff\x51", 0, _codestream),
    (b"\x01\xda", 0, _sgi),
    (b"DDS ", 0, _dds),
    (b"8BPS", 0, _psd),
)
