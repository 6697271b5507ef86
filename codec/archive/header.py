"""What an archive says of itself: the table at its head, and the checksums around it.

    7 bytes   "DDPMARC"                         4 bytes   CRC-32 of all that is before
    1 byte    version                           ...       words of the ANS coder, 4 bytes each, the last is the top
    4 bytes   length of the table               4 bytes   CRC-32 of all that is before
    ...       table: JSON, deflated

All numbers are little-endian.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from codec.errors import CodecError, DamagedFile, NotOurFile, UnknownModel
from ddpm.files import inflated

from .patches import CODE, Batch, Kind, batches, check_count, kinds

MAGIC, VERSION = b"DDPMARC", 5
MAX_TABLE = 1 << 27  # bytes of JSON
MAX_STEPS = 4096


@dataclass(frozen=True, kw_only=True)
class ArchiveHeader:
    """What an archive says of itself. Lists have one entry for each picture; dictionaries are by number."""

    model: str
    fingerprint: bytes
    steps: int  # T, or CODE
    names: list[str]
    sizes: list[tuple[int, int]]  # height, width
    grey: list[bool]
    alpha: dict[int, bytes]  # of pictures with transparency
    crcs: list[int]
    plan: list[int]  # in order of pushing: n patches, or -n: one as a file of n bytes
    count: int  # of words
    kept: dict[int, tuple[int, bytes]] = field(default_factory=dict)  # stored pictures: bytes, colour
    start: int = 0  # byte of the first word
    file_bytes: int = 0

    @property
    def whole_bytes(self) -> int:
        return self.start + 4 * self.count + 4

    @property
    def kinds(self) -> list[Kind]:
        return kinds(self.sizes, self.grey, self.steps)

    @property
    def dims(self) -> int:
        return sum(h * w * (1 if g else 3) for (h, w), g in zip(self.sizes, self.grey))

    @property
    def complete(self) -> bool:
        return self.file_bytes >= self.whole_bytes

    @property
    def stored(self) -> int:
        """Pictures, and patches of others, that are stored as files of their own."""
        return len(self.kept) + sum(n < 0 for n in self.plan)

    @property
    def batches(self) -> list[Batch]:
        """In order of pushing; ValueError if the plan is none for these pictures."""
        return batches(self.kinds, self.plan, self.kept)

    def to_table(self) -> dict:
        """As JSON has it: binary values in hexadecimal and base64, of what is so or not the numbers for which it is."""
        return {
            "model": self.model,
            "fingerprint": self.fingerprint.hex(),
            "steps": self.steps,
            "names": self.names,
            "sizes": self.sizes,
            "grey": [i for i, grey in enumerate(self.grey) if grey],
            "alpha": {i: base64_of(data) for i, data in self.alpha.items()},
            "crcs": base64_of(np.array(self.crcs, "<u4").tobytes()),
            "plan": self.plan,
            "words": self.count,
            "kept": [[i, n, c.hex()] for i, (n, c) in self.kept.items()],
        }

    @classmethod
    def from_table(cls, table: dict, *, start: int, file_bytes: int) -> ArchiveHeader:
        """The inverse of ``to_table``."""
        names, grey = list(table["names"]), frozenset(table["grey"])
        return cls(
            model=table["model"],
            fingerprint=bytes.fromhex(table["fingerprint"]),
            steps=int(table["steps"]),
            names=names,
            sizes=[(int(h), int(w)) for h, w in table["sizes"]],
            grey=[i in grey for i in range(len(names))],
            alpha={int(i): of_base64(text) for i, text in table["alpha"].items()},
            crcs=np.frombuffer(of_base64(table["crcs"]), "<u4").tolist(),
            plan=[int(n) for n in table["plan"]],
            count=int(table["words"]),
            kept={int(i): (int(n), bytes.fromhex(colour)) for i, n, colour in table["kept"]},
            start=start,
            file_bytes=file_bytes,
        )


def base64_of(data: bytes) -> str:
    return base64.b64encode(data).decode()


def of_base64(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


def pack(header: ArchiveHeader, words: np.ndarray) -> bytes:
    """The archive with this header, and the words (count,) of the ANS coder."""
    raw = json.dumps(header.to_table(), separators=(",", ":")).encode()
    if len(raw) > MAX_TABLE:
        raise CodecError("too many pictures for one archive")
    table = zlib.compress(raw, 9)
    data = closed(MAGIC + bytes([VERSION]) + len(table).to_bytes(4, "little") + table)
    return closed(data + words.astype("<u4").tobytes())


def unpack(data: bytes) -> ArchiveHeader:
    """What the header says; the archive may be cut behind it. No network is needed."""
    if data[: len(MAGIC)] != MAGIC:
        raise NotOurFile("not a ddpm-codec archive")
    if data[7:8] != bytes([VERSION]):
        raise NotOurFile(f"an archive of another version; this program reads {VERSION}")
    end = 12 + int.from_bytes(data[8:12], "little")
    if len(data) < end + 4:
        raise DamagedFile("the archive ends inside its header; nothing can be had of it")
    if not is_closed(data[: end + 4]):
        raise DamagedFile("the header is damaged (checksum); nothing can be had of the archive")
    try:
        table = json.loads(inflated(data[12:end], MAX_TABLE))
        header = ArchiveHeader.from_table(table, start=end + 4, file_bytes=len(data))
        check(header)
    except (zlib.error, ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError) as e:
        raise DamagedFile(f"the archive's table contradicts itself: {e}") from None
    return header


def closed(data: bytes) -> bytes:
    return data + zlib.crc32(data).to_bytes(4, "little")


def is_closed(data: bytes) -> bool:
    return zlib.crc32(memoryview(data)[:-4]).to_bytes(4, "little") == data[-4:]


def check(h: ArchiveHeader) -> None:
    """ValueError if the header contradicts itself, CodecError if it asks for what no archive may have."""
    if not (
        len(h.names) == len(h.sizes) == len(h.crcs) > 0
        and all(1 <= side <= 65535 for size in h.sizes for side in size)
        and isinstance(h.model, str)
        and (h.steps == CODE or 2 <= h.steps <= MAX_STEPS)
        and 0 <= h.count < 1 << 40
        and -min(h.plan, default=0) <= 4 * h.count
    ):
        raise ValueError("a value is out of range")
    check_names(h.names)
    check_count(h.sizes)
    if not all(0 <= i < len(h.names) and n >= 0 for i, (n, _) in h.kept.items()):
        raise ValueError("a value is out of range")
    if sum(n for n, _ in h.kept.values()) > 4 * h.count or any(
        len(colour) != (1 if h.grey[i] else 3) for i, (_, colour) in h.kept.items()
    ):
        raise ValueError("stored pictures that cannot be")
    _ = h.batches  # raises if there is no such plan


def check_names(names: Sequence[str]) -> None:
    """Names are relative paths with / that stay inside the folder in which they are written, on any system."""
    for name in names:
        for step in name.split("/") if isinstance(name, str) else [""]:
            plain = step.isprintable() and not set(step) & set('\\:*?"<>|') and len(step.encode()) <= 255
            if not plain or not step.strip(" .") or step != step.strip(" "):
                raise CodecError(f"the name {str(name)[:80]!r} is not one that can be written everywhere")
    if len({name.casefold() for name in names}) != len(names):
        raise CodecError("two pictures of the archive have the same name")


def known_model(header: ArchiveHeader) -> str:
    """The name of a model at hand that has the archive's fingerprint."""
    from ddpm.models.store import read_card, shipped_models

    for name, path in shipped_models().items():
        try:
            if read_card(path)["fingerprint"] == header.fingerprint.hex():
                return name
        except UnknownModel:
            continue
    raise UnknownModel(
        f"made with model {header.model} ({header.fingerprint.hex()[:8]}), which is not known here; give --model"
    )
