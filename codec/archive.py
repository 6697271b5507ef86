"""Lossless archives of many pictures, coded together by bits-back (bitsback.py).

The latents are those of the lossy code's own steps, or of T levels of the model's schedule (walks.py). Bits-back
borrows what it pops, so the first pictures are stored as files of their own (lossless ones of this codec, or PNG where
that is smaller) until there is enough to borrow from; after them a batch grows with the stack. Pictures larger than
64x64 are cut into patches of at most that, of one size within a pixel. The schedule codes grey ones with three equal
channels; they come back grey. What is pushed last comes off first: every picture needs all the words behind it, and a
cut archive gives none. The network must answer to the last bit as it did for the encoder: same batches, same number of
threads, and a checksum of its answers in the header that refuses other arithmetic before the first picture.

    7 bytes   "DDPMARC"                         4 bytes   CRC-32 of all that is before
    1 byte    version                           ...       words of the ANS coder, 4 bytes each, the last is the top
    4 bytes   length of the table               4 bytes   CRC-32 of all that is before
    ...       table: JSON, deflated

All numbers are little-endian.
"""

from __future__ import annotations

import base64
import json
import math
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from .errors import CodecError, DamagedFile, NotOurFile, UnknownModel
from .pictures import MAX_PIXELS, is_grey, png_bytes, read_picture

if TYPE_CHECKING:
    from ddpm.model import DDPM

    from .bitsback import BitsBack, Stack
    from .gaussians import Gaussians

MAGIC, VERSION = b"DDPMARC", 1
SIDE = 64  # of the largest patch
BATCH_PIXELS = 1 << 16
MAX_TABLE = 1 << 27  # bytes of JSON
MAX_PATCHES = 1 << 22
MAX_STEPS, MAX_THREADS = 4096, 1024
CODE = 0  # for T: the steps of the lossy code

Kind = tuple[int, int, int]  # height, width and coded channels of a patch


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
    crcs: list[int]
    plan: list[int]  # batches in order of pushing: n patches, or -n: one patch as a file of n bytes
    count: int  # of words
    start: int  # byte of the first word
    file_bytes: int

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
        """Patches that are files of their own."""
        return sum(n < 0 for n in self.plan)


def cuts(length: int) -> list[int]:
    """Where a side is cut into parts of at most SIDE, equal within a pixel; both ends included."""
    parts = -(-length // SIDE)
    return [length * i // parts for i in range(parts + 1)]


def kinds(sizes, grey, steps: int) -> list[Kind]:
    """Of whole pictures."""
    return [(h, w, 1 if g and steps == CODE else 3) for (h, w), g in zip(sizes, grey)]


def layout(pictures: Sequence[Kind]) -> list[tuple[Kind, np.ndarray]]:
    """All patches by kind, small ones first: [((height, width, channels), (n, 3) of picture, top, left), ...]."""
    groups: dict[Kind, list] = {}
    for number, (height, width, channels) in enumerate(pictures):
        rows, columns = cuts(height), cuts(width)
        for top, bottom in pairwise(rows):
            for left, right in pairwise(columns):
                groups.setdefault((bottom - top, right - left, channels), []).append((number, top, left))
    order = sorted(groups, key=lambda kind: (kind[0] * kind[1], kind))
    return [(kind, np.array(groups[kind], np.int32)) for kind in order]


def batches(pictures: Sequence[Kind], plan: Sequence[int]) -> list[tuple[int, Kind, np.ndarray]]:
    """(entry of the plan, kind, patches (n, 3)) for each entry; ValueError if it is no plan for these pictures."""
    out, entries = [], iter(plan)
    for kind, where in layout(pictures):
        at = 0
        while at < len(where):
            entry = next(entries, 0)
            n = 1 if entry < 0 else entry
            if not 0 < n <= min(largest(kind), len(where) - at):
                raise ValueError("no plan for these pictures")
            out.append((entry, kind, where[at : at + n]))
            at += n
    if next(entries, None) is not None:
        raise ValueError("no plan for these pictures")
    return out


def largest(kind: Kind) -> int:
    """The largest batch of patches of a kind, a power of two."""
    return 1 << (BATCH_PIXELS // (kind[0] * kind[1])).bit_length() - 1


def create(
    pictures: Iterable[tuple[str, np.ndarray]], model: DDPM, steps: int = CODE, *, max_pixels=MAX_PIXELS, progress=None
) -> bytes:
    """The archive of (name, uint8 (H, W, 3) or grey (H, W)). ``progress`` counts looks of the network at one patch."""
    import torch

    from .bitsback import Dry, Stack

    pictures = list(pictures)
    if not pictures:
        raise CodecError("an archive holds at least one picture")
    names, arrays = [name for name, _ in pictures], [array for _, array in pictures]
    for name, array in pictures:
        if array.dtype != np.uint8 or array.ndim not in (2, 3) or array.shape[2:] not in ((), (3,)):
            raise CodecError(f"{name}: pictures are uint8 (H, W, 3) or (H, W)")
        _check_size(name, array.shape[:2], max_pixels)
    _check_names(names)
    sizes, grey = [array.shape[:2] for array in arrays], [array.ndim == 2 for array in arrays]
    _check_patches(sizes)
    chains, plan, depth = chains_of(model, steps), [], math.inf
    stack = Stack(gaussians_for(model, steps))
    threads = torch.get_num_threads()
    with arithmetic(threads):
        for kind, where in layout(kinds(sizes, grey, steps)):
            chain, at, dims = chains(kind), 0, math.prod(kind)
            while at < len(where):
                affordable = max(1, int(0.98 * stack.bits / (depth * dims)))
                n = min(largest(kind), 1 << min(affordable, len(where) - at).bit_length() - 1)
                while n:
                    trial = stack.copy()
                    x = np.stack([patch(arrays[i], top, left, kind) for i, top, left in where[at : at + n]])
                    try:
                        chain.push(trial, x.transpose(0, 3, 1, 2), progress)
                        break
                    except Dry:
                        n //= 2
                if n:
                    depth = (stack.bits - trial.lowest) / (n * dims)
                    stack, entry = trial, n
                else:
                    file = store(x[0], model)
                    stack.push_bytes(file)
                    entry, n = -len(file), 1
                    if progress:
                        progress(chain.looks)
                plan.append(entry)
                at += n
        check = numerics(chains, stack, batches(kinds(sizes, grey, steps), plan))
    table = {
        "model": model.name,
        "fingerprint": model.fingerprint.hex(),
        "steps": steps,
        "made_on": f"torch {torch.__version__}, {model.device.type}, {torch.backends.cpu.get_cpu_capability()}",
        "threads": threads,
        "numerics": check,
        "names": names,
        "sizes": [list(size) for size in sizes],
        "grey": np.flatnonzero(grey).tolist(),
        "crcs": base64.b64encode(np.array([crc(a) for a in arrays], "<u4").tobytes()).decode(),
        "plan": plan,
        "words": len(stack.words()),
    }
    raw = json.dumps(table, separators=(",", ":")).encode()
    if len(raw) > MAX_TABLE:
        raise CodecError("too many pictures for one archive")
    packed = zlib.compress(raw, 9)
    data = _closed(MAGIC + bytes([VERSION]) + len(packed).to_bytes(4, "little") + packed)
    return _closed(data + stack.words().astype("<u4").tobytes())


def extract(data: bytes, model: DDPM, *, max_pixels=MAX_PIXELS, progress=None) -> Iterator[tuple[str, np.ndarray]]:
    """(name, picture) in the order in which they come off; each has been checked. Refuses what it cannot read at once.

    The archive must be whole, of this model, and of this machine's arithmetic.
    """
    c = contents(data)
    if not c.complete:
        raise DamagedFile(
            f"cut after {c.file_bytes} of {c.whole_bytes} bytes; every picture needs the end, so none can be had"
        )
    if c.file_bytes > c.whole_bytes:
        raise DamagedFile(f"the archive is longer than its content ({c.file_bytes} bytes, not {c.whole_bytes})")
    if not _is_closed(data):
        raise DamagedFile("the words are damaged (checksum); every picture needs all of them, so none can be had")
    if c.fingerprint != model.fingerprint:
        raise UnknownModel(f"the archive was made with model {c.model} ({c.fingerprint.hex()[:8]}), not {model.name}")
    for name, size in zip(c.names, c.sizes):
        _check_size(name, size, max_pixels)
    chains, stack = chains_of(model, c.steps), stack_of(c, data, model)
    with arithmetic(c.threads):
        if numerics(chains, stack, batches(c.kinds, c.plan)) != c.numerics:
            raise CodecError(
                f"the network's answers here are not the encoder's (made on {c.made_on}, {c.threads} threads): "
                "the archive can only be read where they are equal to the last bit"
            )
    return _pictures(c, stack, chains, model, progress)


def _pictures(c: Contents, stack, chains, model, progress):
    started = {}
    missing = [(len(cuts(h)) - 1) * (len(cuts(w)) - 1) for h, w in c.sizes]
    for entry, (h, w, channels), where in reversed(batches(c.kinds, c.plan)):
        chain = chains((h, w, channels))
        with arithmetic(c.threads):
            if entry < 0:
                x = [restore(stack.pop_bytes(-entry), model, (h, w, channels))]
                if progress:
                    progress(chain.looks)
            else:
                x = chain.pop(stack, (entry, channels, h, w), progress).transpose(0, 2, 3, 1)
        for (i, top, left), part in zip(where.tolist(), x):
            array = started.setdefault(i, np.empty((*c.sizes[i], channels), np.uint8))
            array[top : top + h, left : left + w] = part
            missing[i] -= 1
            if not missing[i]:
                array = started.pop(i)
                array = np.ascontiguousarray(array[..., 0]) if c.grey[i] else array
                if crc(array) != c.crcs[i]:
                    raise DamagedFile(f"{c.names[i]} does not come out as it went in (checksum); the rest is lost")
                yield c.names[i], array
    if not stack.coder.is_empty():
        raise DamagedFile("words are left over when all pictures are out")


def contents(data: bytes) -> Contents:
    """What the header says; the archive may be cut behind it. No network is needed."""
    if data[: len(MAGIC)] != MAGIC:
        raise NotOurFile("not a ddpm-codec archive")
    if data[7:8] != bytes([VERSION]):
        raise NotOurFile(f"an archive of another version; this program reads version {VERSION}")
    end = 12 + int.from_bytes(data[8:12], "little")
    if len(data) < end + 4:
        raise DamagedFile("the archive ends inside its header; nothing can be had of it")
    if not _is_closed(data[: end + 4]):
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
        _check_names(names)
        _check_patches(sizes)
        greys = [i in grey for i in range(len(names))]
        batches(kinds(sizes, greys, steps), plan)
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
            crcs,
            plan,
            count,
            end + 4,
            len(data),
        )
    except (zlib.error, ValueError, KeyError, TypeError, RecursionError, OverflowError) as e:
        raise DamagedFile(f"the archive's table contradicts itself: {e}") from None


def find_model(c: Contents) -> str:
    """The name of a model at hand that has the archive's fingerprint."""
    from ddpm.model import ModelError, read_card, shipped_models

    for name, path in shipped_models().items():
        try:
            if read_card(path)["fingerprint"] == c.fingerprint.hex():
                return name
        except ModelError:
            continue
    raise UnknownModel(f"made with model {c.model} ({c.fingerprint.hex()[:8]}), which is not known here; give --model")


def chains_of(model: DDPM, steps: int) -> Callable[[Kind], BitsBack]:
    """The bits-back chain for a kind of patch."""
    from ddpm.reverse import Reverse

    from .bitsback import BitsBack
    from .walks import OfCode, Scheduled

    if steps == CODE:
        if not model.coding:
            raise CodecError(f"model {model.name} has no coding tables; say --steps T, or calibrate it first")
        return lru_cache(maxsize=None)(lambda kind: BitsBack(OfCode(model, kind[:2], kind[2] == 1)))
    if not 2 <= steps <= MAX_STEPS:
        raise CodecError(f"an archive has 2 to {MAX_STEPS} steps, not {steps}")
    try:
        chain = BitsBack(Scheduled(Reverse(model), steps))
    except ValueError as e:
        raise CodecError(str(e)) from None
    return lambda kind: chain


def looks(model: DDPM, pictures: Sequence[Kind], steps: int) -> int:
    """How often the network looks at a patch to code these pictures."""
    chains = chains_of(model, steps)
    return sum(chains(kind).looks * len(where) for kind, where in layout(pictures))


def gaussians_for(model: DDPM, steps: int) -> Gaussians:
    from .gaussians import Gaussians

    return Gaussians(len(model.coding["levels"]) if steps == CODE else steps)


def stack_of(c: Contents, data: bytes, model: DDPM) -> Stack:
    from .bitsback import Stack

    return Stack(gaussians_for(model, c.steps), np.frombuffer(data, "<u4", c.count, c.start))


@contextmanager
def arithmetic(threads: int):
    """Plain float32, the same algorithms each time, and so many threads."""
    import torch

    from ddpm.model import strict_fp32

    strict_fp32()
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
            yield
    finally:
        torch.set_num_threads(before)


def numerics(chains, stack: Stack, together) -> int:
    """CRC-32 of what p says of fixed latents, at three levels of all batches of distinct shapes, and of the coder."""
    import torch

    shapes = sorted({(entry, channels, h, w) for entry, (h, w, channels), _ in together if entry > 0})
    check = 0
    with torch.inference_mode():
        for n, channels, h, w in shapes:
            shape, walk = (n, channels, h, w), chains((h, w, channels)).walk
            c = (np.arange(math.prod(shape), dtype=np.uint64) * 2654435761 >> 8) % 4096 / 1024.0 - 2
            middle = len(walk.steps) // 2
            answers = [a for i in (0, middle) for a in walk.x_hat(i, c, shape)]
            for a in (*walk.prior(shape), *answers, *walk.pixels(c, shape)):
                check = zlib.crc32(np.asarray(a).tobytes(), check)
    stack, k = type(stack)(stack.gaussians), np.arange(-99, 99)
    stack.push(k, k[::-1] / 9 + 0.1, 8 + np.abs(k) / 7)
    return zlib.crc32(stack.words().astype("<u4").tobytes(), check)


def patch(array: np.ndarray, top: int, left: int, kind: Kind) -> np.ndarray:
    """(h, w, channels) of a picture (H, W, 3) or (H, W)."""
    part = array[top : top + kind[0], left : left + kind[1]]
    return part if part.ndim == 3 else np.repeat(part[..., None], kind[2], 2)


def store(x: np.ndarray, model: DDPM) -> bytes:
    """A patch (h, w, channels) as a file of its own: ours or PNG, whichever is smaller."""
    from .api import Codec
    from .ratecontrol import Target

    x = np.ascontiguousarray(x[..., 0]) if is_grey(x) else x
    files = [png_bytes(x)]
    if model.coding:
        with suppress(CodecError):  # not every size has a code
            files.append(Codec(model).encode([x], Target(lossless=True))[0].data)
    return min(files, key=len)


def restore(file: bytes, model: DDPM, kind: Kind) -> np.ndarray:
    """The patch (h, w, channels) that ``store`` was given."""
    from .api import Codec

    pixels = kind[0] * kind[1]
    if file[:1] == b"\x89":
        array = read_picture(file, max_pixels=pixels)
    else:
        array = Codec(model).decode([file], max_pixels=pixels)[0].array
    if array.shape[:2] != kind[:2] or array.shape[2:] not in ((), (kind[2],)):
        raise DamagedFile("a stored patch is not of the size that the table gives")
    return patch(array, 0, 0, kind)


def crc(array: np.ndarray) -> int:
    return zlib.crc32(np.ascontiguousarray(array).tobytes())


def _closed(data: bytes) -> bytes:
    return data + zlib.crc32(data).to_bytes(4, "little")


def _is_closed(data: bytes) -> bool:
    return zlib.crc32(memoryview(data)[:-4]).to_bytes(4, "little") == data[-4:]


def _check_size(name: str, size: tuple[int, int], max_pixels: int) -> None:
    height, width = size
    if not (1 <= height <= 65535 and 1 <= width <= 65535):
        raise CodecError(f"{name}: {width}x{height} pixels; sides are 1 to 65535")
    if height * width > max_pixels:
        raise CodecError(f"{name}: {width}x{height} pixels; at most {max_pixels} (see --max-pixels)")


def _check_patches(sizes) -> None:
    if sum(-(-h // SIDE) * -(-w // SIDE) for h, w in sizes) > MAX_PATCHES:
        raise CodecError("too many pictures for one archive")


def _check_names(names: Sequence[str]) -> None:
    """Names are relative paths with / that stay inside the folder in which they are written, on any system."""
    for name in names:
        parts = name.split("/") if isinstance(name, str) else [""]
        for part in parts:
            plain = part.isprintable() and not set(part) & set('\\:*?"<>|') and len(part.encode()) <= 255
            if not plain or not part.strip(" .") or part != part.strip(" "):
                raise CodecError(f"the name {str(name)[:80]!r} is not one that can be written everywhere")
    if len({name.casefold() for name in names}) != len(names):
        raise CodecError("two pictures of the archive have the same name")
