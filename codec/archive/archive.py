"""Lossless archives of many pictures, coded together by bits-back (bitsback.py).

The latents are those of the lossy code's own steps, or of T levels of the model's schedule (walks.py). Bits-back
borrows what it pops, so the first pictures are stored as files of their own (lossless ones of this codec, or PNG where
that is smaller) until there is enough to borrow from; after them a batch grows with the stack. Pictures larger than
64x64 are cut into patches of at most that, of one size within a pixel. The schedule codes grey ones with three equal
channels; they come back grey. What is pushed last comes off first: every picture needs all the words behind it, and a
cut archive gives none. The network must answer to the last bit as it did for the encoder: same batches, same number of
threads, and a checksum of its answers in the header that refuses other arithmetic before the first picture.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from codec.errors import CodecError, DamagedFile, Uncalibrated, UnknownModel
from codec.format import stored
from codec.images import alpha
from codec.images.pictures import MAX_PIXELS, is_grey, png_bytes, read_picture

from .header import MAX_STEPS, Contents, check_names, contents, is_closed, seal
from .patches import CODE, Kind, batches, check_count, cuts, kinds, largest, layout, patch

if TYPE_CHECKING:
    from ddpm.models.model import DDPM

    from .bitsback import BitsBack, Stack
    from .gaussians import Gaussians


def create(
    pictures: Iterable[tuple[str, np.ndarray]],
    model: DDPM,
    steps: int = CODE,
    *,
    store=True,
    max_pixels=MAX_PIXELS,
    progress=None,
) -> bytes:
    """The archive of (name, uint8 (H, W, 3) or grey (H, W)), with one more channel if transparent.

    ``store``: pictures that turn out to cost more bits than a lossless image format takes are stored as they are, and
    the others are coded anew. ``progress`` counts looks of the network at one patch.
    """
    import torch

    from .bitsback import Stack

    pictures = list(pictures)
    if not pictures:
        raise CodecError("an archive holds at least one picture")
    names = [name for name, _ in pictures]
    for name, array in pictures:
        if array.dtype != np.uint8 or array.ndim not in (2, 3) or array.shape[2:] not in ((), (2,), (3,), (4,)):
            raise CodecError(f"{name}: pictures are uint8 (H, W, 3), (H, W), (H, W, 4) or (H, W, 2)")
        _check_size(name, array.shape[:2], max_pixels)
    check_names(names)
    arrays, clear = zip(*(alpha.split(array) for _, array in pictures))
    sizes, grey = [array.shape[:2] for array in arrays], [array.ndim == 2 for array in arrays]
    check_count(sizes)
    found, chains, threads = kinds(sizes, grey, steps), chains_of(model, steps), torch.get_num_threads()
    gaussians, parts = gaussians_for(model, steps), {}
    transparency = {i: alpha.pack(a) for i, a in enumerate(clear) if a is not None}
    with arithmetic(threads):
        while True:
            stack = Stack(gaussians)
            for part in parts.values():
                stack.push_bytes(part)
            stack, plan, costs = _push(arrays, found, chains, stack, model, parts, progress)
            for i, packed in transparency.items():
                costs[i] += 8 * len(packed)
            dear = _shorter([array for _, array in pictures], costs, parts) if store else {}
            if not dear:
                break
            parts |= dear
        check = numerics(chains, stack, batches(found, plan, parts))
    made_on = f"torch {torch.__version__}, {model.device.type}, {torch.backends.cpu.get_cpu_capability()}"
    transparency = {i: packed for i, packed in transparency.items() if i not in parts}
    crcs, words = [crc(array) for _, array in pictures], stack.words()
    c = Contents(
        model.name,
        model.fingerprint,
        steps,
        made_on,
        threads,
        check,
        names,
        sizes,
        grey,
        transparency,
        crcs,
        plan,
        len(words),
        {i: (len(part), stored.colour_of(arrays[i])) for i, part in parts.items()},
    )
    return seal(c, words)


def _shorter(pictures, costs: np.ndarray, parts: dict[int, bytes]) -> dict[int, bytes]:
    """Pictures that take fewer bits as they are than they have cost: by number."""
    found = {}
    for i, (array, cost) in enumerate(zip(pictures, costs)):
        if i not in parts and 8 * stored.about(array) < 1.5 * cost and 8 * len(part := stored.pack(array)) < cost:
            found[i] = part
    return found


def _push(arrays, found, chains, stack: Stack, model, kept, progress) -> tuple[Stack, list[int], np.ndarray]:
    """The stack with all patches on it, the plan of batches, and what each picture costs, in bits."""
    from .bitsback import Dry

    costs = np.zeros(len(arrays))
    plan, depth = [], math.inf  # bits borrowed at most, of each dimension
    for kind, where in layout(found, kept):
        chain, at, dims = chains(kind), 0, math.prod(kind)
        while at < len(where):
            affordable = max(1, int(0.98 * stack.bits / (depth * dims)))
            n = min(largest(kind), 1 << min(affordable, len(where) - at).bit_length() - 1)
            while n:
                trial = stack.copy()
                x = np.stack([patch(arrays[i], top, left, kind) for i, top, left in where[at : at + n]])
                try:
                    bits = chain.push(trial, x.transpose(0, 3, 1, 2), progress)
                    break
                except Dry:
                    n //= 2
            if n:
                depth = (stack.bits - trial.lowest) / (n * dims)
                stack, entry = trial, n
            else:
                file = store(x[0], model)
                stack.push_bytes(file)
                bits = np.array([8.0 * len(file)])
                entry, n = -len(file), 1
                if progress:
                    progress(chain.looks)
            np.add.at(costs, where[at : at + n, 0], bits)
            plan.append(entry)
            at += n
    return stack, plan, costs


def extract(data: bytes, model: DDPM, *, max_pixels=MAX_PIXELS, progress=None) -> Iterator[tuple[str, np.ndarray]]:
    """(name, picture) in the order in which they come off; each has been checked. Refuses what it cannot read at once.

    The archive must be whole, of this model, and of this machine's arithmetic.
    """
    from .bitsback import Stack

    c = contents(data)
    if not c.complete:
        raise DamagedFile(
            f"cut after {c.file_bytes} of {c.whole_bytes} bytes; every picture needs the end, so none can be had"
        )
    if c.file_bytes > c.whole_bytes:
        raise DamagedFile(f"the archive is longer than its content ({c.file_bytes} bytes, not {c.whole_bytes})")
    if not is_closed(data):
        raise DamagedFile("the words are damaged (checksum); every picture needs all of them, so none can be had")
    if c.fingerprint != model.fingerprint:
        raise UnknownModel(f"the archive was made with model {c.model} ({c.fingerprint.hex()[:8]}), not {model.name}")
    for name, size in zip(c.names, c.sizes):
        _check_size(name, size, max_pixels)
    chains = chains_of(model, c.steps)
    stack = Stack(gaussians_for(model, c.steps), np.frombuffer(data, "<u4", c.count, c.start))
    with arithmetic(c.threads):
        if numerics(chains, stack, c.batches) != c.numerics:
            raise CodecError(
                f"the network's answers here are not the encoder's (made on {c.made_on}, {c.threads} threads): "
                "the archive can only be read where they are equal to the last bit"
            )
    return _pop(c, stack, chains, model, progress)


def _pop(c: Contents, stack: Stack, chains, model, progress):
    started = {}
    missing = [(len(cuts(h)) - 1) * (len(cuts(w)) - 1) for h, w in c.sizes]
    for entry, (h, w, channels), where in reversed(c.batches):
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
                if i in c.alpha:
                    array = alpha.joined(array, alpha.unpack(c.alpha[i], c.sizes[i]))
                yield c.names[i], checked(c, i, array)
    for i, (count, colour) in reversed(c.kept.items()):
        yield c.names[i], checked(c, i, stored.unpack(stack.pop_bytes(count), colour, c.sizes[i]))
    if not stack.coder.is_empty():
        raise DamagedFile("words are left over when all pictures are out")


def checked(c: Contents, i: int, array: np.ndarray) -> np.ndarray:
    """Picture i, if it is the one that went in."""
    if crc(array) != c.crcs[i]:
        raise DamagedFile(f"{c.names[i]} does not come out as it went in (checksum); the rest is lost")
    return array


def chains_of(model: DDPM, steps: int) -> Callable[[Kind], BitsBack]:
    """The bits-back chain for a kind of patch."""
    from codec.lossy.tables import CodingTables
    from ddpm.diffusion.reverse import Reverse

    from .bitsback import BitsBack
    from .latents import OfCode, Scheduled

    if steps == CODE:
        tables = CodingTables.of_model(model)
        if tables is None:
            raise Uncalibrated(model, "say --steps T, or ")
        return lru_cache(maxsize=None)(lambda kind: BitsBack(OfCode(model, tables, kind[:2], kind[2] == 1)))
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
    from codec.lossy.tables import CodingTables

    from .gaussians import Gaussians

    return Gaussians(len(CodingTables.of_model(model).levels) if steps == CODE else steps)


@contextmanager
def arithmetic(threads: int):
    """Plain float32, the same algorithms each time, and so many threads."""
    import torch

    from ddpm.models.model import strict_fp32

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


def store(x: np.ndarray, model: DDPM) -> bytes:
    """A patch (h, w, channels) as a file of its own: ours or PNG, whichever is smaller."""
    from codec.api import Codec
    from codec.target import Target

    x = np.ascontiguousarray(x[..., 0]) if is_grey(x) else x
    files = [png_bytes(x)]
    if model.coding:
        with suppress(CodecError):  # not every size has a code
            files.append(Codec(model).encode([x], Target(lossless=True))[0].data)
    return min(files, key=len)


def restore(file: bytes, model: DDPM, kind: Kind) -> np.ndarray:
    """The patch (h, w, channels) that ``store`` was given."""
    from codec.api import Codec

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


def _check_size(name: str, size: tuple[int, int], max_pixels: int) -> None:
    height, width = size
    if not (1 <= height <= 65535 and 1 <= width <= 65535):
        raise CodecError(f"{name}: {width}x{height} pixels; sides are 1 to 65535")
    if height * width > max_pixels:
        raise CodecError(f"{name}: {width}x{height} pixels; at most {max_pixels} (see --max-pixels)")
