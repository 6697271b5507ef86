"""Lossless archives of many pictures, coded together by bits-back (bitsback.py).

The latents are those of the lossy code's own steps, or of T levels of the model's schedule (latents.py). Bits-back
borrows what it pops, so the first pictures are stored as files of their own (lossless ones of this codec, or PNG where
that is smaller) until there is enough to borrow from; after them a batch grows with the stack. Pictures larger than
64x64 are cut into patches of at most that, of one size within a pixel. The schedule codes grey ones with three equal
channels; they come back grey. What is pushed last comes off first: every picture needs all the words behind it, and a
cut archive gives none. The network is an exact one, so all machines read what any has written.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from codec.errors import CodecError, DamagedFile, UnknownModel
from codec.format import stored
from codec.images import alpha
from codec.images.pictures import MAX_PIXELS
from ddpm.models.model import DDPM

from .batch import BatchCoder
from .bitsback import Stack, bitsback_for
from .header import ArchiveHeader, check_names, is_closed, pack, unpack
from .patches import CODE, Kind, check_count, cuts, kinds, largest, layout, patch


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
    the others are coded anew. ``progress`` counts evaluations of the network for one patch.
    """
    names, arrays = _checked_pictures(pictures, max_pixels)
    colours, clear = zip(*map(alpha.split, arrays))
    sizes, grey = [colour.shape[:2] for colour in colours], [colour.ndim == 2 for colour in colours]
    check_count(sizes)
    found = kinds(sizes, grey, steps)
    coder, kept = BatchCoder(model, steps, progress), {}
    transparency = {i: alpha.pack(a) for i, a in enumerate(clear) if a is not None}
    while True:
        stack, plan, costs = _push_all(coder, colours, found, kept)
        for i, packed in transparency.items():
            costs[i] += 8 * len(packed)
        dear = _shorter(arrays, costs, kept) if store else {}
        if not dear:
            break
        kept |= dear
    words = stack.words()
    header = ArchiveHeader(
        model=model.name,
        fingerprint=model.fingerprint,
        steps=steps,
        names=names,
        sizes=sizes,
        grey=grey,
        alpha={i: packed for i, packed in transparency.items() if i not in kept},
        crcs=[_crc(array) for array in arrays],
        plan=plan,
        count=len(words),
        kept={i: (len(file), stored.colour_of(colours[i])) for i, file in kept.items()},
    )
    return pack(header, words)


def extract(data: bytes, model: DDPM, *, max_pixels=MAX_PIXELS, progress=None) -> Iterator[tuple[str, np.ndarray]]:
    """(name, picture) in the order in which they come off; each has been checked. Refuses what it cannot read at once.

    The archive must be whole, and of this model.
    """
    header = unpack(data)
    if not header.complete:
        raise DamagedFile(
            f"cut after {header.file_bytes} of {header.whole_bytes} bytes; every picture needs the end, "
            "so none can be had"
        )
    if header.file_bytes > header.whole_bytes:
        raise DamagedFile(
            f"the archive is longer than its content ({header.file_bytes} bytes, not {header.whole_bytes})"
        )
    if not is_closed(data):
        raise DamagedFile("the words are damaged (checksum); every picture needs all of them, so none can be had")
    if header.fingerprint != model.fingerprint:
        known = f"{header.model} ({header.fingerprint.hex()[:8]})"
        raise UnknownModel(f"the archive was made with model {known}, not {model.name}")
    for name, size in zip(header.names, header.sizes):
        _check_size(name, size, max_pixels)
    coder = BatchCoder(model, header.steps, progress)
    stack = Stack(coder.gaussians, np.frombuffer(data, "<u4", header.count, header.start))
    return _pop_all(coder, header, stack)


def _push_all(
    coder: BatchCoder, colours: Sequence[np.ndarray], found: Sequence[Kind], kept: dict[int, bytes]
) -> tuple[Stack, list[int], np.ndarray]:
    """The stack with stored pictures and all patches of others, the plan of batches, and what each picture costs, bits.

    How many patches go together is what the batch before has shown that the stack can lend bits to.
    """
    stack, plan, costs = Stack(coder.gaussians), [], np.zeros(len(colours))
    for file in kept.values():
        stack.push_bytes(file)
    depth = math.inf  # bits borrowed at most, of each dimension
    for kind, where in layout(found, kept):
        at, dims = 0, math.prod(kind)
        while at < len(where):
            bits = stack.bits
            affordable = max(1, int(0.98 * bits / (depth * dims)))
            n = min(largest(kind), 1 << min(affordable, len(where) - at).bit_length() - 1)
            x = np.stack([patch(colours[i], top, left, kind) for i, top, left in where[at : at + n]])
            stack, entry, of_each = coder.push(stack, kind, x)
            if entry > 0:
                depth = (bits - stack.lowest) / (entry * dims)
            n = max(entry, 1)
            np.add.at(costs, where[at : at + n, 0], of_each)
            plan.append(entry)
            at += n
    return stack, plan, costs


def _pop_all(coder: BatchCoder, header: ArchiveHeader, stack: Stack) -> Iterator[tuple[str, np.ndarray]]:
    """(name, picture), patches put together as soon as all of a picture are there; then what is stored."""
    started = {}
    missing = [(len(cuts(h)) - 1) * (len(cuts(w)) - 1) for h, w in header.sizes]
    for entry, (h, w, channels), where in reversed(header.batches):
        x = coder.pop(stack, (h, w, channels), entry)
        for (i, top, left), pixels in zip(where.tolist(), x):
            array = started.setdefault(i, np.empty((*header.sizes[i], channels), np.uint8))
            array[top : top + h, left : left + w] = pixels
            missing[i] -= 1
            if not missing[i]:
                array = started.pop(i)
                array = np.ascontiguousarray(array[..., 0]) if header.grey[i] else array
                if i in header.alpha:
                    array = alpha.joined(array, alpha.unpack(header.alpha[i], header.sizes[i]))
                yield header.names[i], _checked(header, i, array)
    for i, (n_bytes, colour) in reversed(header.kept.items()):
        array = stored.unpack(stack.pop_bytes(n_bytes), colour, header.sizes[i])
        yield header.names[i], _checked(header, i, array)
    if not stack.coder.is_empty():
        raise DamagedFile("words are left over when all pictures are out")


def _shorter(arrays: Sequence[np.ndarray], costs: np.ndarray, kept: dict[int, bytes]) -> dict[int, bytes]:
    """Pictures that take fewer bits as they are than they have cost: by number."""
    found = {}
    for i, (array, cost) in enumerate(zip(arrays, costs)):
        if i not in kept and 8 * stored.about(array) < 1.5 * cost and 8 * len(file := stored.pack(array)) < cost:
            found[i] = file
    return found


def evaluations(model: DDPM, pictures: Sequence[Kind], steps: int) -> int:
    """How often the network is asked about a patch to code these pictures."""
    bitsback_of = bitsback_for(model, steps)
    return sum(bitsback_of(kind).evaluations * len(where) for kind, where in layout(pictures))


def _checked_pictures(pictures, max_pixels: int) -> tuple[list[str], list[np.ndarray]]:
    """Names and arrays, if an archive can hold them; CodecError if not."""
    pictures = list(pictures)
    if not pictures:
        raise CodecError("an archive holds at least one picture")
    for name, array in pictures:
        if array.dtype != np.uint8 or array.ndim not in (2, 3) or array.shape[2:] not in ((), (2,), (3,), (4,)):
            raise CodecError(f"{name}: pictures are uint8 (H, W, 3), (H, W), (H, W, 4) or (H, W, 2)")
        _check_size(name, array.shape[:2], max_pixels)
    names, arrays = map(list, zip(*pictures))
    check_names(names)
    return names, arrays


def _check_size(name: str, size: tuple[int, int], max_pixels: int) -> None:
    height, width = size
    if not (1 <= height <= 65535 and 1 <= width <= 65535):
        raise CodecError(f"{name}: {width}x{height} pixels; sides are 1 to 65535")
    if height * width > max_pixels:
        raise CodecError(f"{name}: {width}x{height} pixels; at most {max_pixels} (see --max-pixels)")


def _checked(header: ArchiveHeader, i: int, array: np.ndarray) -> np.ndarray:
    """Picture i, if it is the one that went in."""
    if _crc(array) != header.crcs[i]:
        raise DamagedFile(f"{header.names[i]} does not come out as it went in (checksum); the rest is lost")
    return array


def _crc(array: np.ndarray) -> int:
    return zlib.crc32(np.ascontiguousarray(array).tobytes())
