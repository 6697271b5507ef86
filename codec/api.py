"""The Python interface: a ``Codec`` encodes arrays or pictures to bytes; ``decode`` and ``inspect`` take any file.

>>> import numpy as np
>>> from codec import Codec, Target, decode
>>> codec = Codec("cifar10")
>>> picture = np.tile(np.arange(0, 256, 8, dtype=np.uint8)[None, :, None], (32, 1, 3))
>>> [file] = codec.encode([picture], Target(bits_per_dim=0.5))
>>> len(file.data) <= 0.5 * 32 * 32 / 8
True
>>> decode(file.data).array.shape
(32, 32)
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch
from PIL import Image

from ddpm.machine import has_fast_bf16
from ddpm.model import DDPM, ModelError, load_model, read_card, shipped_models, strict_fp32

from . import alpha, lossless, progressive
from .container import (
    PARTS,
    TRAILER,
    Header,
    checksum,
    pack_corrections,
    pack_part,
    unpack_corrections,
    unpack_part,
)
from .errors import CodecError, DamagedFile, Uncalibrated, UnknownModel
from .pictures import MAX_PIXELS, to_array
from .plan import MEAN, Allotment, Plan, plan_for
from .sending import Sender
from .target import Target

SMALL = 32  # pixels a side, at most


@dataclass(frozen=True)
class Encoded:
    """One file and what the encoder knows of it. mse in squared grey levels over all dims, of the ``mean`` picture."""

    data: bytes
    dims: int
    pixels: int
    mse: float
    ideal_bits: float  # sum of KL along the chain that was sent
    payload_bits: int
    seconds: float

    @property
    def bits_per_dim(self) -> float:
        return 8 * len(self.data) / self.dims

    @property
    def psnr(self) -> float:
        """dB, of RGB (or grey) from the mean squared error; infinite for an exact picture."""
        return psnr(self.mse)


@dataclass(frozen=True)
class Decoded:
    """A picture; ``complete`` if the file was whole and its checksum right.

    uint8 (H, W, 3), or (H, W) for grey; with transparency (H, W, 4) or (H, W, 2).
    """

    array: np.ndarray
    header: Header
    complete: bool
    steps: int

    @property
    def image(self) -> Image.Image:
        return Image.fromarray(self.array)


@dataclass(frozen=True)
class Opened:
    """A file that has been checked: what its bytes hold, whole or cut."""

    info: Info
    allotment: Allotment
    messages: bytes
    parts: dict[str, tuple[int, int]]  # what else is there and whole, see ``container.PARTS``: first byte, and end


@dataclass(frozen=True)
class Stage:
    """What the first ``bytes`` of a file show: uint8 (H, W, 3), or (H, W) for grey."""

    bytes: int
    array: np.ndarray


@dataclass(frozen=True)
class Info:
    """What can be told of a file without decoding it."""

    header: Header
    model: str
    header_bytes: int
    side_bytes: int  # before the first message: the header and the corrections
    file_bytes: int
    whole_bytes: int | None  # length of the file before anything was cut, if what is left says so
    dims: int
    steps: int  # complete ones in these bytes
    gamma: float  # log noise-to-signal ratio reached
    complete: bool
    free: bool  # whether each step says itself how many bits it has; the header's profile then means nothing


def psnr(mse: float) -> float:
    """dB from the mean squared error in grey levels."""
    return math.inf if mse == 0 else 10 * math.log10(255**2 / mse)


def reduction(height: int, width: int, max_size: int | None) -> int:
    """The least whole factor that makes a picture at most ``max_size`` pixels a side."""
    return 1 if max_size is None else -(-max(height, width) // max_size)


def usual_model(height: int, width: int) -> str:
    """The line of models for pictures of a size.

    Photographs scaled down to 32x32 and less come out better by 1.2 to 6 dB with ``cifar10`` than with ``photo``, at
    equal bytes; it takes longer, the more so the larger they are.
    """
    return "cifar10" if max(height, width) <= SMALL else "photo"


def pick_device(device: str) -> str:
    """``auto`` becomes cuda where there is one; CodecError for what is not here, and for other kinds of devices."""
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu":
        return device
    if not re.fullmatch("cuda(:(0|[1-9][0-9]{0,3}))?", device):
        raise CodecError(f"no device {device!r}; use auto, cpu, cuda or cuda:N")
    if not torch.cuda.is_available():
        raise CodecError("no CUDA device here; use --device cpu")
    count = torch.cuda.device_count()
    if int(device.partition(":")[2] or 0) >= count:
        raise CodecError(
            f"no device {device!r} here; CUDA devices here: {', '.join(f'cuda:{n}' for n in range(count))}"
        )
    return device


class Codec:
    """An encoder and decoder for one model; ``model`` is a name (``photo``, ``cifar10-1``), a path, or a DDPM."""

    def __init__(self, model: str | DDPM = "photo", device: str = "auto"):
        strict_fp32()
        try:
            self.model = model if isinstance(model, DDPM) else load_model(model, pick_device(device))
        except ModelError as e:
            raise UnknownModel(str(e)) from None
        if not self.model.coding:
            raise Uncalibrated(self.model)
        self.native = self.model.config.get("native")

    def plan(self, height: int, width: int, grey: bool) -> Plan:
        return plan_for(self.model.coding, height * width * (1 if grey else 3), grey)

    def encode(
        self,
        images: Sequence[np.ndarray | Image.Image],
        target: Target,
        *,
        seed: int = 0,
        channel: str = "trellis",
        fp32: bool = False,
        max_pixels: int = MAX_PIXELS,
        progress=None,
    ) -> list[Encoded]:
        """Encode pictures of one size and colour (uint8 (H, W, 3), or (H, W) for grey, or PIL) as one batch.

        Transparency, one more channel, is for lossless files. The default channel writes files; ``ideal`` only computes
        what true samples would cost (``data`` is empty). Where that is much faster, lossy files are made in bfloat16 if
        the network is fit for it, unless ``fp32``; they say so, and other machines do the same in float32.
        """
        start = time.monotonic()
        images = [Image.fromarray(im) if isinstance(im, np.ndarray) else im for im in images]
        arrays = [to_array(im, keep_alpha=target.lossless, max_pixels=max_pixels) for im in images]
        arrays, alphas = zip(*map(alpha.split, arrays))
        if len({a.shape for a in arrays}) != 1:
            raise ValueError("pictures of one call must have one size and all be grey or none")
        grey = arrays[0].ndim == 2
        height, width = arrays[0].shape[:2]
        plan = self.plan(height, width, grey)
        levels = np.stack([np.repeat(a[..., None], 3, 2) if grey else a for a in arrays])
        levels = torch.from_numpy(levels).permute(0, 3, 1, 2)
        blank = Header(self.model.fingerprint[0], height, width, MEAN, 0, grey, seed)
        overhead = len(blank.pack(self.native)) + TRAILER
        budget = target.payload_bits(plan.dims, height * width, overhead)
        bf16 = self.model.knows_bf16 and has_fast_bf16(self.model.device) and not (fp32 or target.lossless)
        sent = Sender(self.model, plan, levels, grey, seed, channel, bf16, progress).send(target, budget)
        if target.mse is not None and (worst := max(s.mse for s in sent)) > target.mse:
            raise CodecError(f"this model's lossy code ends at {psnr(worst):.2f} dB for this picture")
        out = []
        pixels = None
        if target.lossless and channel == "trellis":
            pixels = lossless.Pixels(self.model, (height, width), plan.gammas[-1], grey, seed)
        for s, array, clear in zip(sent, arrays, alphas):
            by = s.allotment
            mode = "lossy, bf16" if bf16 else "lossy"
            if target.lossless:
                mode = "lossless" if clear is None else "lossless, with alpha"
            header = Header(blank.model, height, width, by.profile, by.steps, grey, seed, mode).pack(self.native)
            payload = pack_corrections(header, by.corrections) + np.packbits(s.stream.bits).tobytes()
            if pixels:
                payload += b"" if clear is None else pack_part(header, alpha.pack(clear))
                payload += pack_part(header, lossless.encode(pixels, s.stream.z, array))
            data = header + payload + checksum(header, payload, self.model.fingerprint)
            out.append(
                Encoded(
                    data if channel == "trellis" else b"",
                    plan.dims,
                    height * width,
                    0.0 if pixels else s.mse,
                    sum(s.stream.kl),
                    s.bits,
                    0.0,
                )
            )
        seconds = (time.monotonic() - start) / len(levels)
        return [replace(file, seconds=seconds) for file in out]

    def open(self, data: bytes, max_pixels: int = MAX_PIXELS) -> Opened:
        """Check a file of this model, whole or cut."""
        header, at = Header.unpack(data, lambda byte: self.native if byte == self.model.fingerprint[0] else None)
        if header.model != self.model.fingerprint[0]:
            raise UnknownModel(f"the file was not made with model {self.model.name}")
        if header.height * header.width > max_pixels:
            raise CodecError(f"{header.width}x{header.height} pixels; at most {max_pixels} (see --max-pixels)")
        if header.bf16 and not self.model.knows_bf16:
            raise DamagedFile("the header promises an arithmetic that its model does not know")
        plan = self.plan(header.height, header.width, header.grey)
        if header.steps > plan.steps:
            raise DamagedFile("the header promises more steps than its model has")
        count = Allotment.count_long(plan, header.profile, header.steps)
        corrections, start = unpack_corrections(data, at, count)
        allotment = Allotment(plan, header.profile, header.steps, corrections)
        end = start + -(-allotment.total // 8)  # of the messages
        parts, whole = {}, end
        for name in PARTS[header.mode]:
            length, begin = unpack_part(data, data[:at], whole)
            if length > lossless.PREFIX + 8 * plan.dims + 4096:
                raise DamagedFile("a part of the file is longer than any could be")
            whole = begin + length
            parts[name] = begin, whole
        whole += TRAILER
        if len(data) > whole:
            raise DamagedFile(f"the file is longer than its content ({len(data)} bytes, not {whole})")
        complete = len(data) == whole
        known = whole if start <= len(data) and all(begin <= len(data) for begin, _ in parts.values()) else None
        messages = data[start : min(end, whole - TRAILER)]
        expected = checksum(data[:at], data[at : whole - TRAILER], self.model.fingerprint)
        if complete and data[whole - TRAILER :] != expected:
            raise DamagedFile("the file is damaged (checksum), or was made with another model")
        steps = allotment.complete(8 * len(messages))
        gamma, free = plan.gammas[steps], plan.is_free(header.profile)
        info = Info(header, self.model.name, at, start, len(data), known, plan.dims, steps, gamma, complete, free)
        return Opened(info, allotment, messages, {name: ends for name, ends in parts.items() if ends[1] <= len(data)})

    def decode(
        self,
        files: Sequence[bytes],
        *,
        recon: str = "mean",
        rate: float | None = None,
        max_size: int | None = None,
        max_pixels: int = MAX_PIXELS,
        progress=None,
    ) -> list[Decoded]:
        """Decode files, whole or cut. ``rate``: only so many bits/dim of each are used, header included.

        ``max_size``: pictures of at most so many pixels a side, smaller by a whole factor, without transparency; no
        more of the file is decoded than they need.
        """
        if max_size is not None and max_size < 1:
            raise CodecError("a picture has at least one pixel a side")
        if max_size is not None and recon != "mean":
            raise CodecError(f"a smaller picture is only made with recon mean, not {recon}")
        opened = [self.open(data, max_pixels) for data in files]
        groups: dict[tuple, list[int]] = {}
        limits = [math.inf if rate is None else math.floor(rate * file.info.dims / 8) for file in opened]
        payloads = []
        for file, asked in zip(opened, limits):
            messages, h = file.messages, file.info.header
            if rate is not None:
                messages = messages[: max(0, asked - file.info.side_bytes)]
            bits = np.unpackbits(np.frombuffer(messages, np.uint8))[: file.allotment.total]
            payloads.append(bits)
            exact = "pixels" in file.parts and file.info.complete and asked >= file.info.whole_bytes
            reach = file.allotment.reach(len(bits))
            if (scale := reduction(h.height, h.width, max_size)) > 1:
                reach, exact = min(reach, progressive.steps_for(file.allotment.plan, scale)), False
            group = (h.height, h.width, h.grey, h.seed, h.bf16, reach, exact)
            groups.setdefault(group, []).append(len(payloads) - 1)
        out: list[Decoded | None] = [None] * len(files)
        for (height, width, grey, seed, bf16, reach, exact), members in groups.items():
            size, allotments = (height, width), [opened[i].allotment for i in members]
            plan, bits = allotments[0].plan, [payloads[i] for i in members]
            chain = progressive.decode(self.model, plan, bits, allotments, reach, size, grey, seed, bf16, progress)
            if exact:
                pixels = lossless.Pixels(self.model, size, plan.gammas[-1], grey, seed)
                coded = [files[i][slice(*opened[i].parts["pixels"])] for i in members]
                arrays = [lossless.decode(pixels, z, part) for part, z in zip(coded, chain.z)]
            else:
                scale = reduction(height, width, max_size)
                arrays = progressive.show(chain, recon, seed) if scale == 1 else progressive.show_small(chain, scale)
                arrays = arrays[..., 0] if grey else arrays
            for i, array in zip(members, arrays):
                info, clear = opened[i].info, opened[i].parts.get("alpha")
                if clear and clear[1] <= limits[i] and array.shape[:2] == size:
                    array = alpha.joined(array, alpha.unpack(files[i][slice(*clear)], size))
                out[i] = Decoded(array, info.header, info.complete, reach)
        return out

    def stages(self, data: bytes, max_pixels: int = MAX_PIXELS) -> Iterator[Stage]:
        """All that a file, whole or cut, shows on its way: the picture after 0, 1, ... complete steps, in one pass."""
        file = self.open(data, max_pixels)
        info, allotment = file.info, file.allotment
        h, bits = info.header, np.unpackbits(np.frombuffer(file.messages, np.uint8))
        pictures = progressive.stages(
            self.model,
            allotment.plan,
            bits,
            allotment,
            info.steps,
            (h.height, h.width),
            h.grey,
            h.seed,
            h.bf16,
        )
        for k, array in enumerate(pictures):
            yield Stage(info.side_bytes + -(-sum(allotment.sizes[:k]) // 8), array[..., 0] if h.grey else array)


@lru_cache(maxsize=4)
def _codec(name: str, device: str) -> Codec:
    return Codec(name, device)


@lru_cache(maxsize=1)
def _fingerprints() -> dict[int, list[str]]:
    known: dict[int, list[str]] = {}
    for name, path in shipped_models().items():
        known.setdefault(int(read_card(path)["fingerprint"][:2], 16), []).append(name)
    return known


def codec_for(data: bytes, model: str | None = None, device: str = "auto") -> Codec:
    """The codec that a file asks for among the known models; ``model`` overrides the search."""
    if model is not None:
        return _codec(model, pick_device(device))
    names = {b: n[-1] for b, n in _fingerprints().items()}
    native = lambda byte: 1 if byte in names else None  # noqa: E731  (only the model byte is wanted here)
    header, _ = Header.unpack(data, native)
    if header.model not in names:
        raise UnknownModel(f"no known model has the fingerprint {header.model:02x} that the file names; give --model")
    return _codec(names[header.model], pick_device(device))


def decode(data: bytes, *, model: str | None = None, device: str = "auto", **options) -> Decoded:
    """Decode one file, or any prefix of one, with the model that it names; options as of ``Codec.decode``."""
    return codec_for(data, model, device).decode([data], **options)[0]


def inspect(data: bytes, *, model=None) -> Info:
    """What a file says of itself; the same checks as decoding, without the network."""
    return codec_for(data, model, "cpu").open(data, max_pixels=1 << 32).info
