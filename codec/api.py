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

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TypedDict, TypeVar, Unpack, overload

import numpy as np

from codec.channel.simulation import CHANNELS
from codec.format import stored
from codec.format.container import Header
from codec.format.file import Info, Opened, open_stored, stored_picture
from codec.format.models import Opener, model_of, open_file
from codec.images.alpha import split
from codec.images.inputs import as_pictures, is_one
from codec.images.pictures import MAX_PIXELS
from codec.lossless import near
from codec.lossy import progressive
from codec.lossy.plan import Plan
from codec.lossy.progressive import Progress
from codec.lossy.setting import Setting
from ddpm.groups import grouped
from ddpm.models.load import load_model
from ddpm.models.model import DDPM, strict_fp32

from . import decoder
from .decoder import Decoded, View, check_options, decode_stored
from .device import pick_device
from .encoder import Encoded, Encoder, psnr
from .errors import CodecError, NotExact, naming
from .target import EFFORTS, Target, stride_of

__all__ = ["Codec", "Decoded", "Encoded", "Info", "Stage", "codec_for", "decode", "inspect", "pick_device", "psnr"]

File = bytes | bytearray | memoryview | str | Path  # its content, or where it is
F = TypeVar("F", bound=File)
Files = list[F] | tuple[F, ...] | Iterator[F]


@dataclass(frozen=True)
class Stage:
    """What the first ``bytes`` of a file show: uint8 (H, W, 3), or (H, W) for grey."""

    bytes: int
    array: np.ndarray


class EncodeOptions(TypedDict, total=False):
    """Those of ``Codec.encode``."""

    seed: int
    effort: int
    channel: str
    store: bool
    metadata: bool
    max_pixels: int
    progress: Progress | None


class DecodeOptions(TypedDict, total=False):
    """Those of ``Codec.decode``."""

    recon: str
    rate: float | None
    max_size: int | None
    max_pixels: int
    progress: Progress | None


class Codec:
    """An encoder and decoder for one model; ``model`` is a name (``photo``, ``cifar10-5``), a path, or a DDPM."""

    def __init__(self, model: str | DDPM = "photo", device: str = "auto"):
        strict_fp32()
        self.model = model if isinstance(model, DDPM) else load_model(model, pick_device(device))
        self.opener = Opener.of(self.model)
        if self.model.exact is None:
            raise NotExact(self.model)
        self.tables, self.maker = self.opener.tables, self.opener.maker

    def plan(self, height: int, width: int, grey: bool, stride: int = 1) -> Plan:
        return self.opener.plan(height, width, grey, stride)

    def setting(self, size: tuple[int, int], grey=False, seed=0, stride=1) -> Setting:
        """Of pictures of one size (height, width)."""
        return Setting.of(self.model, self.tables, size, grey=grey, seed=seed, stride=stride)

    def setting_of(self, header: Header) -> Setting:
        """That of the encoder of a file of this model."""
        return self.setting((header.height, header.width), header.grey, header.seed, header.stride)

    @overload
    def encode(self, images: list | tuple, target: Target, **options: Unpack[EncodeOptions]) -> list[Encoded]: ...
    @overload
    def encode(self, images, target: Target, **options: Unpack[EncodeOptions]) -> list[Encoded] | Encoded: ...
    def encode(
        self,
        images,
        target: Target,
        *,
        seed: int = 0,
        effort: int = EFFORTS,
        channel: str = "trellis",
        store: bool = True,
        metadata: bool = False,
        max_pixels: int = MAX_PIXELS,
        progress: Progress | None = None,
    ) -> list[Encoded] | Encoded:
        """Encode one picture, or a list of them: uint8 (H, W, 3), or (H, W) for grey, PIL images, paths.

        Those of one shape go through the network together. Lossless files keep transparency, one more channel, and the
        colours and their profile as they are; EXIF and XMP with ``metadata``; so do those with a greatest error, whose
        transparency is exact. Those of pictures that a lossless image format has in fewer bytes just ``store`` that. A
        size in which a lossless file has room gives that.

        effort, 1 to 4: how many steps the chain takes; fewer take less time on both sides, and more bytes.

        The default channel writes files; ``ideal`` only computes what true samples would cost (``data`` is empty).
        """
        if not isinstance(target, Target):
            raise CodecError(f"a target is a Target, such as Target(bits_per_dim=0.1), not {type(target).__name__}")
        if channel not in CHANNELS:
            raise CodecError(f"a channel is {' or '.join(CHANNELS)}, not {channel!r}")
        if not isinstance(seed, (int, np.integer)) or not 0 <= seed < 1 << 63:
            raise CodecError(f"a seed is a whole number from 0 to 2^63 - 1, not {seed!r}")
        stride = stride_of(effort)
        start = time.monotonic()
        as_stored, error = target.lossless or target.max_error is not None, target.max_error or 0
        originals = pictures = as_pictures(images, as_stored, metadata, max_pixels)
        if error:
            pictures = [replace(p, array=near.picture_within(p.array, error)) for p in pictures]
        found, arrays = {}, [picture.array for picture in pictures]
        shapes = grouped(range(len(arrays)), lambda i: (arrays[i].shape[:2], arrays[i].shape[2:] in ((), (2,))))
        for (size, grey), members in shapes.items():
            setting = self.setting(size, grey, seed, stride)
            how = {"channel": CHANNELS[channel], "store": store, "progress": progress}
            encoder = Encoder(setting, [pictures[i] for i in members], **how, learns=error > 0)
            found |= zip(members, encoder.encode(target if target.max_error is None else Target(lossless=True)))
        if error:
            found = {i: replace(file, mse=near.mse(originals[i].array, pictures[i].array)) for i, file in found.items()}
        seconds = (time.monotonic() - start) / len(pictures)
        files = [replace(found[i], seconds=seconds) for i in range(len(pictures))]
        return files[0] if is_one(images) else files

    def open(self, data: bytes, max_pixels: int = MAX_PIXELS) -> Opened:
        """Check a file of this model, or one that needs none, whole or cut."""
        return self.opener.open(data, max_pixels)

    @overload
    def decode(self, files: File, **options: Unpack[DecodeOptions]) -> Decoded: ...
    @overload
    def decode(self, files: Files[F], **options: Unpack[DecodeOptions]) -> list[Decoded]: ...
    def decode(
        self,
        files,
        *,
        recon: str = "mean",
        rate: float | None = None,
        max_size: int | None = None,
        max_pixels: int = MAX_PIXELS,
        progress: Progress | None = None,
    ) -> list[Decoded] | Decoded:
        """Decode one file, or a list of them, whole or cut: bytes or paths.

        ``rate``: only so many bits/dim of each are used, header included. ``max_size``: pictures of at most so many
        pixels a side, smaller by a whole factor, without transparency; no more of the file is decoded than they need.
        """
        check_options(recon, rate, max_size)
        one, files = isinstance(files, (bytes, bytearray, memoryview, str, Path)), as_files(files)
        views = [View.of(data, self.open(data, max_pixels), rate, max_size) for data in files]
        found: dict[int, Decoded] = {}
        for members in grouped(range(len(views)), lambda i: views[i].kind).values():
            group = [views[i] for i in members]
            if group[0].header.stored:
                pictures = map(decode_stored, group)
            else:
                pictures = decoder.decode(self.setting_of(group[0].header), group, recon, progress)
            found |= zip(members, pictures)
        out = [found[i] for i in range(len(files))]
        return out[0] if one else out

    def stages(self, data: bytes, max_pixels: int = MAX_PIXELS) -> Iterator[Stage]:
        """All that a file, whole or cut, shows on its way: the picture after 0, 1, ... complete steps, in one pass."""
        file = self.open(data, max_pixels)
        info, allotment = file.info, file.allotment
        if info.header.stored:
            yield Stage(
                info.header_bytes, stored.of_colour(info.header.colour, (info.header.height, info.header.width))
            )
            if info.complete:
                yield Stage(info.file_bytes, split(stored_picture(data, file))[0])
            return
        h = info.header
        pictures = progressive.stages(self.setting_of(h), file.bits, allotment, info.steps)
        for k, array in enumerate(pictures):
            yield Stage(info.side_bytes + -(-sum(allotment.sizes[:k]) // 8), array[..., 0] if h.grey else array)


@lru_cache(maxsize=4)
def _codec(name: str, device: str) -> Codec:
    return Codec(name, device)


class Storage:
    """Reads files of stored pictures, for which there is no need of a model."""

    def open(self, data: bytes, max_pixels: int = MAX_PIXELS) -> Opened:
        """Check a file, whole or cut."""
        return open_stored(data, max_pixels)

    def decode(
        self, files: Sequence[bytes], *, recon="mean", rate=None, max_size=None, max_pixels=MAX_PIXELS, progress=None
    ) -> list[Decoded]:
        """As ``Codec.decode``."""
        check_options(recon, rate, max_size)
        views = (View.of(data, self.open(data, max_pixels), rate, max_size) for data in files)
        return [decode_stored(view) for view in views]


def as_files(given) -> list[bytes]:
    """The contents of one file or several, which are bytes or paths."""
    given = given if isinstance(given, (list, tuple)) or hasattr(given, "__next__") else [given]
    out = []
    for file in given:
        if isinstance(file, (str, Path)):
            with naming(file):
                file = Path(file).read_bytes()
        if not isinstance(file, (bytes, bytearray, memoryview)):
            raise CodecError(f"a file is bytes or a path, not {type(file).__name__}")
        out.append(bytes(file))
    return out


def codec_for(data: bytes, model: str | None = None, device: str = "auto") -> Codec | Storage:
    """Who reads a file: of the known models the one that it was made with; ``model`` overrides the search."""
    name = model_of(data, model)
    return Storage() if name is None else _codec(name, pick_device(device))


def decode(data: File, *, model: str | None = None, device: str = "auto", **options: Unpack[DecodeOptions]) -> Decoded:
    """Decode one file, or any prefix of one, with the model that it names; options as of ``Codec.decode``.

    data: bytes or a path.
    """
    [data] = as_files(data)
    return codec_for(data, model, device).decode([data], **options)[0]


def inspect(data: File, *, model: str | None = None) -> Info:
    """What a file (bytes or a path) says of itself; the same checks as decoding, without the network."""
    [data] = as_files(data)
    return open_file(data, model).info
