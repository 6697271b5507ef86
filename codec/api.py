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
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from codec.format import stored
from codec.format.container import Header, model_bytes
from codec.format.file import Info, Opened, check_pixels, metadata_of, open_stored, opened, stored_picture
from codec.images import alpha
from codec.images.alpha import split
from codec.images.inputs import as_pictures, is_one
from codec.images.pictures import MAX_PIXELS
from codec.lossless import pixels as lossless
from codec.lossy import progressive
from codec.lossy.plan import Plan
from codec.lossy.reconstruct import RECONSTRUCTIONS, show, show_small, steps_for
from codec.lossy.setting import Setting
from codec.lossy.tables import CodingTables
from ddpm.models.load import load_model
from ddpm.models.model import DDPM, strict_fp32
from ddpm.models.store import read_card, shipped_models

from .choices import check_device
from .encoder import Encoded, Encoder, psnr
from .errors import CodecError, DamagedFile, Uncalibrated, UnknownModel
from .target import Target

__all__ = ["Codec", "Decoded", "Encoded", "Info", "Stage", "codec_for", "decode", "inspect", "pick_device", "psnr"]


@dataclass(frozen=True)
class Decoded:
    """A picture; ``complete`` if the file was whole and its checksum right.

    uint8 (H, W, 3), or (H, W) for grey; with transparency (H, W, 4) or (H, W, 2).
    """

    array: np.ndarray
    header: Header
    complete: bool
    steps: int
    icc: bytes | None = None  # the profile of its colours, if they are not those of sRGB
    exif: bytes | None = None
    xmp: bytes | None = None

    @property
    def image(self) -> Image.Image:
        image = Image.fromarray(self.array)
        image.info |= {k: v for k, v in {"icc_profile": self.icc, "exif": self.exif, "xmp": self.xmp}.items() if v}
        return image


@dataclass(frozen=True)
class Stage:
    """What the first ``bytes`` of a file show: uint8 (H, W, 3), or (H, W) for grey."""

    bytes: int
    array: np.ndarray


def reduction(height: int, width: int, max_size: int | None) -> int:
    """The least whole factor that makes a picture at most ``max_size`` pixels a side."""
    return 1 if max_size is None else -(-max(height, width) // max_size)


def pick_device(device: str) -> str:
    """``auto`` becomes cuda where there is one; CodecError for what is not here, and for other kinds of devices."""
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu":
        return device
    check_device(device)
    if not torch.cuda.is_available():
        raise CodecError("no CUDA device here; use --device cpu")
    count = torch.cuda.device_count()
    if int(device.partition(":")[2] or 0) >= count:
        raise CodecError(
            f"no device {device!r} here; CUDA devices here: {', '.join(f'cuda:{n}' for n in range(count))}"
        )
    return device


class Codec:
    """An encoder and decoder for one model; ``model`` is a name (``photo``, ``cifar10-5``), a path, or a DDPM."""

    def __init__(self, model: str | DDPM = "photo", device: str = "auto"):
        strict_fp32()
        self.model = model if isinstance(model, DDPM) else load_model(model, pick_device(device))
        tables = CodingTables.of_model(self.model)
        if tables is None:
            raise Uncalibrated(self.model)
        self.tables, self.native = tables, self.model.config.get("native")

    def plan(self, height: int, width: int, grey: bool) -> Plan:
        return self.tables.plan((height, width), grey)

    def setting(self, size: tuple[int, int], grey=False, seed=0, bf16=False) -> Setting:
        """Of pictures of one size (height, width)."""
        return Setting.of(self.model, self.tables, size, grey=grey, seed=seed, bf16=bf16)

    def setting_of(self, header: Header) -> Setting:
        """That of the encoder of a file of this model."""
        return self.setting((header.height, header.width), header.grey, header.seed, header.bf16)

    def encode(
        self,
        images,
        target: Target,
        *,
        seed: int = 0,
        channel: str = "trellis",
        fp32: bool = False,
        store: bool = True,
        metadata: bool = False,
        max_pixels: int = MAX_PIXELS,
        progress=None,
    ) -> list[Encoded] | Encoded:
        """Encode one picture, or a list of them: uint8 (H, W, 3), or (H, W) for grey, PIL images, paths.

        Those of one shape go through the network together. Lossless files keep transparency, one more channel, and the
        colours and their profile as they are; EXIF and XMP with ``metadata``. Those of pictures that a lossless image
        format has in fewer bytes just ``store`` that. A size in which a lossless file has room gives that.

        The default channel writes files; ``ideal`` only computes what true samples would cost (``data`` is empty).
        Where that is much faster, lossy files are made in bfloat16 if the network is fit for it, unless ``fp32``; they
        say so, and other machines do the same in float32.
        """
        if not isinstance(target, Target):
            raise CodecError(f"a target is a Target, such as Target(bits_per_dim=0.1), not {type(target).__name__}")
        if channel not in ("trellis", "ideal"):
            raise CodecError(f"a channel is trellis or ideal, not {channel!r}")
        if not isinstance(seed, (int, np.integer)) or not 0 <= seed < 1 << 63:
            raise CodecError(f"a seed is a whole number from 0 to 2^63 - 1, not {seed!r}")
        start = time.monotonic()
        pictures = as_pictures(images, target.lossless, metadata, max_pixels)
        shapes: dict[tuple, list[int]] = {}
        for i, picture in enumerate(pictures):
            grey = picture.array.ndim == 2 or picture.array.shape[2] == 2
            shapes.setdefault((*picture.array.shape[:2], grey), []).append(i)
        found = {}
        for (height, width, grey), members in shapes.items():
            setting = self.setting((height, width), grey, seed)
            how = {"channel": channel, "fast": not fp32, "store": store, "progress": progress}
            encoder = Encoder(setting, [pictures[i] for i in members], **how)
            found |= zip(members, encoder.encode(target.resolved(setting.plan.gammas)))
        seconds = (time.monotonic() - start) / len(pictures)
        files = [replace(found[i], seconds=seconds) for i in range(len(pictures))]
        return files[0] if is_one(images) else files

    def open(self, data: bytes, max_pixels: int = MAX_PIXELS) -> Opened:
        """Check a file of this model, or one that needs none, whole or cut."""
        fingerprint = self.model.fingerprint
        header, at = Header.unpack(data, lambda model: self.native if fingerprint.startswith(model) else None)
        if not fingerprint.startswith(header.model):
            raise UnknownModel(f"the file was not made with model {self.model.name}")
        if header.stored:
            return open_stored(data, max_pixels)
        check_pixels(header, max_pixels)
        if header.bf16 and not self.model.knows_bf16:
            raise DamagedFile("the header promises an arithmetic that its model does not know")
        plan = self.plan(header.height, header.width, header.grey)
        if header.steps > plan.steps:
            raise DamagedFile("the header promises more steps than its model has")
        return opened(data, header, at, plan, self.model.name, fingerprint)

    def decode(
        self,
        files,
        *,
        recon: str = "mean",
        rate: float | None = None,
        max_size: int | None = None,
        max_pixels: int = MAX_PIXELS,
        progress=None,
    ) -> list[Decoded] | Decoded:
        """Decode one file, or a list of them, whole or cut: bytes or paths.

        ``rate``: only so many bits/dim of each are used, header included. ``max_size``: pictures of at most so many
        pixels a side, smaller by a whole factor, without transparency; no more of the file is decoded than they need.
        """
        check_options(recon, rate, max_size)
        one, files = isinstance(files, (bytes, bytearray, memoryview, str, Path)), as_files(files)
        found = [self.open(data, max_pixels) for data in files]
        limits = [limit(rate, file.info.dims) for file in found]
        out: list[Decoded | None] = [None] * len(files)
        for i, (data, file, most) in enumerate(zip(files, found, limits)):
            if file.info.header.stored:
                out[i] = decoded_stored(data, file, most, max_size)
        groups: dict[tuple, list[int]] = {}
        payloads = []
        for i, (file, asked) in enumerate(zip(found, limits)):
            messages, h = file.messages, file.info.header
            if math.isfinite(asked):
                messages = messages[: max(0, asked - file.info.side_bytes)]
            bits = np.unpackbits(np.frombuffer(messages, np.uint8))[: file.allotment.total]
            payloads.append(bits)
            exact = "pixels" in file.parts and file.info.complete and asked >= file.info.whole_bytes
            reach = file.allotment.reach(len(bits))
            if (scale := reduction(h.height, h.width, max_size)) > 1:
                reach, exact = min(reach, steps_for(file.allotment.plan, scale)), False
            if not h.stored:
                groups.setdefault((h.height, h.width, h.grey, h.seed, h.bf16, reach, exact), []).append(i)
        for (height, width, grey, seed, bf16, reach, exact), members in groups.items():
            size, allotments = (height, width), [found[i].allotment for i in members]
            setting = self.setting(size, grey, seed, bf16)
            bits = [payloads[i] for i in members]
            chain = progressive.decode(setting, bits, allotments, reach, progress)
            if exact:
                pixels = lossless.Pixels(setting)
                coded = [files[i][slice(*found[i].parts["pixels"])] for i in members]
                arrays = [lossless.decode(pixels, z, part) for part, z in zip(coded, chain.z)]
            else:
                scale = reduction(height, width, max_size)
                arrays = show(chain, recon) if scale == 1 else show_small(chain, scale)
                arrays = arrays[..., 0] if grey else arrays
            for i, array in zip(members, arrays):
                info, clear = found[i].info, found[i].parts.get("alpha")
                if clear and clear[1] <= limits[i] and array.shape[:2] == size:
                    array = alpha.joined(array, alpha.unpack(files[i][slice(*clear)], size))
                out[i] = Decoded(array, info.header, info.complete, reach, **metadata_of(files[i], found[i]))
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


@lru_cache(maxsize=1)
def _fingerprints() -> dict[str, bytes]:
    return {name: bytes.fromhex(read_card(path)["fingerprint"]) for name, path in shipped_models().items()}


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
        out = []
        for data in files:
            file = self.open(data, max_pixels)
            out.append(decoded_stored(data, file, limit(rate, file.info.dims), max_size))
        return out


def decoded_stored(data: bytes, file: Opened, most: float, max_size: int | None) -> Decoded:
    """The stored picture, its mean colour if it is cut or of more than ``most`` bytes."""
    h, info = file.info.header, file.info
    array = stored_picture(data, file, whole=most >= info.file_bytes, scale=reduction(h.height, h.width, max_size))
    return Decoded(array, h, info.complete, 0, **metadata_of(data, file))


def limit(rate: float | None, dims: int) -> float:
    """Bytes of a picture of so many dims at so many bits/dim; of any rate that is infinite."""
    most = math.inf if rate is None else rate * dims / 8
    return math.floor(most) if math.isfinite(most) else most


def check_options(recon: str, rate: float | None, max_size: int | None) -> None:
    """CodecError for what ``Codec.decode`` does not know."""
    if recon not in RECONSTRUCTIONS:
        raise CodecError(f"a reconstruction is one of {', '.join(RECONSTRUCTIONS)}, not {recon!r}")
    if rate is not None and (not isinstance(rate, (int, float, np.integer, np.floating)) or not rate >= 0):
        raise CodecError(f"a rate is a number of bits/dim, not {rate!r}")
    if max_size is not None and not isinstance(max_size, (int, np.integer)):
        raise CodecError(f"a size is a whole number of pixels, not {max_size!r}")
    if max_size is not None and max_size < 1:
        raise CodecError("a picture has at least one pixel a side")
    if max_size is not None and recon != "mean":
        raise CodecError(f"a smaller picture is only made with recon mean, not {recon}")


def as_files(given) -> list[bytes]:
    """The contents of one file or several, which are bytes or paths."""
    given = given if isinstance(given, (list, tuple)) or hasattr(given, "__next__") else [given]
    out = []
    for file in given:
        if isinstance(file, (str, Path)):
            try:
                file = Path(file).read_bytes()
            except OSError as e:
                raise CodecError(f"{file}: {e.strerror or e}") from None
        if not isinstance(file, (bytes, bytearray, memoryview)):
            raise CodecError(f"a file is bytes or a path, not {type(file).__name__}")
        out.append(bytes(file))
    return out


def codec_for(data: bytes, model: str | None = None, device: str = "auto") -> Codec | Storage:
    """Who reads a file: of the known models the one that it was made with; ``model`` overrides the search.

    A file names its model by the first byte of a fingerprint, or two. Where several models share them, the checksum of
    the whole file decides; a cut one could be of any of them, and is refused.
    """
    named = model_bytes(data)
    if named == b"":
        return Storage()
    if model is not None:
        return _codec(model, pick_device(device))
    names = [] if named is None else [name for name, of_model in _fingerprints().items() if of_model.startswith(named)]
    if not names:
        Header.unpack(data)
        raise UnknownModel(f"no known model has the fingerprint {named.hex()} that the file names; give --model")
    if len(names) > 1:
        names = [name for name in names if _is_of(data, _codec(name, "cpu"))] or names
    if len(names) > 1:
        raise UnknownModel(f"cut or damaged, it may be of any of the models {', '.join(names)}; give --model")
    return _codec(names[0], pick_device(device))


def _is_of(data: bytes, codec: Codec) -> bool:
    """Whether data are a whole file of this model."""
    try:
        return codec.open(data, max_pixels=1 << 32).info.complete
    except CodecError:
        return False


def decode(data, *, model: str | None = None, device: str = "auto", **options) -> Decoded:
    """Decode one file, or any prefix of one, with the model that it names; options as of ``Codec.decode``.

    data: bytes or a path.
    """
    [data] = as_files(data)
    return codec_for(data, model, device).decode([data], **options)[0]


def inspect(data, *, model=None) -> Info:
    """What a file (bytes or a path) says of itself; the same checks as decoding, without the network."""
    [data] = as_files(data)
    return codec_for(data, model, "cpu").open(data, max_pixels=1 << 32).info
