"""Classical codecs through Pillow, each at its best for what is measured; sizes are those of whole files."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

import numpy as np
from PIL import features

from codec.images.pictures import saved

Encoder = Callable[[np.ndarray, int], bytes]
AVIF = {"subsampling": "4:4:4"}
# libavif's default, tune=iq, is made for the eye and costs bits in PSNR; the bytes of threads depend on their number
PSNR_TUNED = AVIF | {"advanced": {"tune": "psnr"}, "max_threads": 1, "autotiling": False}


@dataclass(frozen=True)
class Peer:
    """A codec with settings, which ``how`` names in tables; ``best_for``: only by this measure is it at its best."""

    codec: str
    how: str
    encode: Encoder
    best_for: str | None = None

    @property
    def says(self) -> dict:
        """What its rows have of it."""
        return {"codec": self.codec, "how": self.how} | ({"best_for": self.best_for} if self.best_for else {})


def _saver(kind: str, **options) -> Encoder:
    return lambda array, quality: saved(array, kind, quality=quality, **options)


PEERS: dict[str, Encoder] = {
    "JPEG": _saver("JPEG", optimize=True, progressive=True),
    "WebP": _saver("WEBP", method=6),
}


def modern() -> dict[str, Encoder]:
    """AVIF and JPEG XL by PSNR, where this machine has them: the latter through pillow-jxl-plugin."""
    found = {}
    if features.check("avif"):
        found["AVIF"] = _saver("AVIF", speed=4, **PSNR_TUNED)
    with contextlib.suppress(ImportError):
        import pillow_jxl  # noqa: F401  (makes Pillow know the format)

        found["JPEG XL"] = _saver("JXL", effort=7)
    return found


def contenders(speed: int = 4) -> list[Peer]:
    """All of them at the settings that are best, slow as they are; at each point the best of a codec counts.

    ``speed`` of AVIF by PSNR; 2 takes 3% fewer bits than 4 and three times as long.
    """
    found = [
        Peer("JPEG", "4:2:0", PEERS["JPEG"]),
        Peer("JPEG", "4:4:4", _saver("JPEG", optimize=True, progressive=True, subsampling="4:4:4")),
        Peer("WebP", "method 6", PEERS["WebP"]),
    ]
    known = modern()
    if "AVIF" in known:
        found.append(
            Peer("AVIF", f"4:4:4, speed {speed}, tune psnr", _saver("AVIF", speed=speed, **PSNR_TUNED), "psnr")
        )
        found.append(Peer("AVIF", "4:4:4, speed 4, tune iq", _saver("AVIF", speed=4, **AVIF), "ms_ssim"))
    if "JPEG XL" in known:
        found += [Peer("JPEG XL", f"effort {effort}", _saver("JXL", effort=effort)) for effort in (7, 9)]
    return found


def wavelet() -> dict[str, Encoder]:
    """JPEG 2000, where Pillow has it: irreversible, one quality layer at 18 + 0.32 quality dB, no container."""
    if not features.check("jpg_2000"):
        return {}
    how = {"quality_mode": "dB", "irreversible": True, "no_jp2": True}
    return {"JPEG 2000": lambda array, quality: saved(array, "JPEG2000", quality_layers=[18 + 0.32 * quality], **how)}


def titled(codec: str, ways: Iterable[str | None]) -> str:
    """The name of a codec, with the settings that its points are of."""
    ways = [how for how in dict.fromkeys(ways) if how]
    return f"{codec}, {ways[0]}" if len(ways) == 1 else f"{codec}, best of {' and '.join(ways)}" if ways else codec


def versions() -> dict[str, str]:
    """Of the libraries behind Pillow, as far as they are here."""
    found = {name: features.version(name) for name in ("jpg", "webp", "avif", "jpg_2000")}
    with contextlib.suppress(PackageNotFoundError):
        found["pillow-jxl-plugin"] = version("pillow-jxl-plugin")
    return {name: known for name, known in found.items() if known}


def overhead(encoder: Encoder, quality: int) -> int:
    """Bytes of a file that are not for its pixels, estimated by the file of a single grey pixel."""
    return len(encoder(np.full((1, 1, 3), 128, np.uint8), quality))


def lossless(picture: np.ndarray) -> dict[str, int]:
    """Bytes of a picture in lossless formats; JPEG XL where this machine has it, with less effort for large ones."""
    effort = 9 if picture.size < 1 << 22 else 7
    ways = {
        "PNG": ("PNG", {"optimize": True}),
        "WebP lossless": ("WEBP", {"lossless": True, "quality": 100, "method": 6}),
    }
    if "JPEG XL" in modern():
        ways[f"JPEG XL lossless, effort {effort}"] = ("JXL", {"lossless": True, "effort": effort})
    return {name: len(saved(picture, kind, **how)) for name, (kind, how) in ways.items()}


def lossless_rows(pictures: list[np.ndarray]) -> list[dict]:
    """Bits/dim of whole files of each lossless format over all pictures."""
    sizes = [lossless(p) for p in pictures]
    values = sum(p.size for p in pictures)
    return [
        {"code": name, "images": len(pictures), "bits_per_dim": 8 * sum(s[name] for s in sizes) / values}
        for name in sizes[0]
    ]


def at_least(encoder: Encoder, array: np.ndarray, n_bytes: int) -> bytes:
    """The smallest file of this encoder that has at least so many bytes, over qualities 1 to 100.

    If even quality 100 is smaller, that file. Sizes grow with quality, nearly; a bisection finds the turn.
    """
    low, high = 1, 100
    while low < high:
        middle = (low + high) // 2
        if len(encoder(array, middle)) >= n_bytes:
            high = middle
        else:
            low = middle + 1
    return encoder(array, low)
