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

from .patches import CODE, Kind, batches, check_count, kinds

MAGIC, VERSIONS = b"DDPMARC", (2, 3)  # those of version 3 have stored pictures
MAX_TABLE = 1 << 27  # bytes of JSON
MAX_STEPS, MAX_THREADS = 4096, 1024


@dataclass(frozen=True)
class Contents:
    """What an archive says of itself. Lists have one entry for each picture."""

    model: str
    fingerprint: bytes
    steps: int  # T, or CODE
    made_on: str
    threads: int
    numerics: int  # CRC-32 of the network's answers, see ``numerics``
    names: list[str]
    sizes: list[tuple[int, int]]  # height, width
    grey: list[bool]
    alpha: dict[int, bytes]  # by number, of pictures with transparency
    crcs: list[int]
    plan: list[int]  # batches in order of pushing: n patches, or -n: one patch as a file of n bytes
    count: int  # of words
    kept: dict[int, tuple[int, bytes]] = field(default_factory=dict)  # by number: bytes of a stored picture, its colour
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
    def batches(self) -> list[tuple[int, Kind, np.ndarray]]:
        """See ``patches.batches``."""
        return batches(self.kinds, self.plan, self.kept)


def seal(c: Contents, words: np.ndarray) -> bytes:
    """The archive of these contents; ``contents`` reads what this writes."""
    table = {
        "model": c.model,
        "fingerprint": c.fingerprint.hex(),
        "steps": c.steps,
        "made_on": c.made_on,
        "threads": c.threads,
        "numerics": c.numerics,
        "names": c.names,
        "sizes": c.sizes,
        "grey": np.flatnonzero(c.grey).tolist(),
        "alpha": {i: base64.b64encode(a).decode() for i, a in c.alpha.items()},
        "crcs": base64.b64encode(np.array(c.crcs, "<u4").tobytes()).decode(),
        "plan": c.plan,
        "words": len(words),
    }
    if c.kept:
        table["kept"] = [[i, n, colour.hex()] for i, (n, colour) in c.kept.items()]
    raw = json.dumps(table, separators=(",", ":")).encode()
    if len(raw) > MAX_TABLE:
        raise CodecError("too many pictures for one archive")
    packed = zlib.compress(raw, 9)
    data = closed(MAGIC + bytes([VERSIONS[bool(c.kept)]]) + len(packed).to_bytes(4, "little") + packed)
    return closed(data + words.astype("<u4").tobytes())


def contents(data: bytes) -> Contents:
    """What the header says; the archive may be cut behind it. No network is needed."""
    if data[: len(MAGIC)] != MAGIC:
        raise NotOurFile("not a ddpm-codec archive")
    if not data[7:8] or data[7] not in VERSIONS:
        raise NotOurFile(f"an archive of another version; this program reads {VERSIONS[0]} to {VERSIONS[-1]}")
    end = 12 + int.from_bytes(data[8:12], "little")
    if len(data) < end + 4:
        raise DamagedFile("the archive ends inside its header; nothing can be had of it")
    if not is_closed(data[: end + 4]):
        raise DamagedFile("the header is damaged (checksum); nothing can be had of the archive")
    try:
        inflate = zlib.decompressobj()
        table = json.loads(inflate.decompress(data[12:end], MAX_TABLE))
        if not inflate.eof:
            raise ValueError("the table is too long")
        names, grey = table["names"], set(table["grey"])
        sizes = [(int(h), int(w)) for h, w in table["sizes"]]
        crcs = np.frombuffer(base64.b64decode(table["crcs"], validate=True), "<u4").tolist()
        plan, count = [int(n) for n in table["plan"]], int(table["words"])
        steps, threads = int(table["steps"]), int(table["threads"])
        if not (
            len(names) == len(sizes) == len(crcs) > 0
            and all(1 <= side <= 65535 for size in sizes for side in size)
            and all(isinstance(table[name], str) for name in ("model", "made_on"))
            and (steps == CODE or 2 <= steps <= MAX_STEPS)
            and 1 <= threads <= MAX_THREADS
            and 0 <= count < 1 << 40
            and -min(plan, default=0) <= 4 * count
        ):
            raise ValueError("a value is out of range")
        check_names(names)
        check_count(sizes)
        greys = [i in grey for i in range(len(names))]
        clear = {int(i): base64.b64decode(a, validate=True) for i, a in table["alpha"].items()}
        kept = {int(i): (int(n), bytes.fromhex(colour)) for i, n, colour in table.get("kept", [])}
        if not all(0 <= i < len(names) and n >= 0 for i, (n, _) in kept.items()):
            raise ValueError("a value is out of range")
        if sum(n for n, _ in kept.values()) > 4 * count or any(
            len(colour) != (1 if greys[i] else 3) for i, (_, colour) in kept.items()
        ):
            raise ValueError("stored pictures that cannot be")
        batches(kinds(sizes, greys, steps), plan, kept)
        return Contents(
            table["model"],
            bytes.fromhex(table["fingerprint"]),
            steps,
            table["made_on"],
            threads,
            int(table["numerics"]),
            names,
            sizes,
            greys,
            clear,
            crcs,
            plan,
            count,
            kept,
            end + 4,
            len(data),
        )
    except (zlib.error, ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError) as e:
        raise DamagedFile(f"the archive's table contradicts itself: {e}") from None


def find_model(c: Contents) -> str:
    """The name of a model at hand that has the archive's fingerprint."""
    from ddpm.models.store import read_card, shipped_models

    for name, path in shipped_models().items():
        try:
            if read_card(path)["fingerprint"] == c.fingerprint.hex():
                return name
        except UnknownModel:
            continue
    raise UnknownModel(f"made with model {c.model} ({c.fingerprint.hex()[:8]}), which is not known here; give --model")


def closed(data: bytes) -> bytes:
    return data + zlib.crc32(data).to_bytes(4, "little")


def is_closed(data: bytes) -> bool:
    return zlib.crc32(memoryview(data)[:-4]).to_bytes(4, "little") == data[-4:]


def check_names(names: Sequence[str]) -> None:
    """Names are relative paths with / that stay inside the folder in which they are written, on any system."""
    for name in names:
        parts = name.split("/") if isinstance(name, str) else [""]
        for part in parts:
            plain = part.isprintable() and not set(part) & set('\\:*?"<>|') and len(part.encode()) <= 255
            if not plain or not part.strip(" .") or part != part.strip(" "):
                raise CodecError(f"the name {str(name)[:80]!r} is not one that can be written everywhere")
    if len({name.casefold() for name in names}) != len(names):
        raise CodecError("two pictures of the archive have the same name")
