"""The one place where pictures are read: any common file to 8-bit levels, by one set of rules for every command."""

from __future__ import annotations

import io
import logging
import os
import sys
import threading
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from ddpm.errors import PictureError

from .colour import is_usable, profile_of_codes, profile_of_png, to_srgb
from .exif import orientation, turned, upright, upright_xmp
from .headers import Beside, beside

MAX_PIXELS = 1 << 24  # per picture, unless the caller raises it
MAX_FILE = 1 << 28  # bytes of a file, and 16 for each pixel that it may have

# Still pictures for which headers.py, or the mode that the library gives, says how many bits they have. Left out: what
# takes other programs to draw (EPS, WMF), has no picture that the library shows (MPEG, HDF5, GRIB, BUFR), and IPTC.
FORMATS = (
    *("PNG", "JPEG", "WEBP", "AVIF", "TIFF", "GIF", "BMP", "DIB", "PPM", "JPEG2000", "TGA", "ICO"),
    *("CUR", "ICNS", "DDS", "FTEX", "BLP", "SGI", "PCX", "DCX", "QOI", "PSD", "SUN", "PIXAR"),
    *("MSP", "IM", "IMT", "XBM", "XPM", "XVTHUMB", "GBR", "FITS", "FLI", "PCD", "MCIDAS"),
)
MODES = ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX")
# Of these the first picture is the whole one: a photograph before its previews, what layers add up to.
SEVERAL = ("MPO", "PSD")

_library = threading.Lock()  # its limit of pixels and Python's filter of warnings are the process's
logging.getLogger("PIL").addHandler(logging.NullHandler())


@dataclass(frozen=True, eq=False)
class Picture:
    """A still picture of 8 bits per channel, upright.

    array: uint8 (H, W, 3), or (H, W) for grey; with transparency (H, W, 4) or (H, W, 2). icc: the profile of its
    colours, None for sRGB. exif: from the TIFF header on. converted: levels are not those of the file, but of sRGB.
    warnings: lines that name the file.
    """

    array: np.ndarray
    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    converted: bool = False
    warnings: tuple[str, ...] = ()


@cache
def suffixes() -> frozenset[str]:
    """The suffixes of files that are read, in lower case."""
    Image.init()
    known = {*FORMATS, "MPO"} & {*Image.OPEN, "MPO"}
    return frozenset(suffix for suffix, kind in Image.registered_extensions().items() if kind in known)


def picture_files(folder: str | Path, say, deep=True) -> list[Path]:
    """The pictures of a folder, and with ``deep`` of those in it, in name order; ``say`` hears of other files."""
    folder = Path(folder)
    files = [p for p in (folder.rglob("*") if deep else folder.iterdir()) if p.is_file()]
    found = sorted(p for p in files if p.suffix.lower() in suffixes() and not p.name.startswith("._"))
    if others := len(files) - len(found):
        say(f"{folder}: {others} file{'s are no pictures' if others > 1 else ' is no picture'}: passed over")
    return found


def tell(text: str) -> None:
    """A line to stderr; of many processes the first speaks for all."""
    if os.environ.get("RANK", "0") == "0" and sys.stderr is not None:
        print(f"warning: {text}", file=sys.stderr, flush=True)


def load_picture(
    source: str | Path | bytes | Image.Image,
    *,
    alpha: str = "refuse",
    colours: str = "srgb",
    metadata: bool = False,
    max_pixels: int = MAX_PIXELS,
    name: str | None = None,
    if_clear: str = "which no model knows; flatten it first",
    if_large: str = "scale it down first",
) -> Picture:
    """An image file (path or content), or a PIL image -> its pixels.

    alpha: ``refuse``, ``drop`` or ``keep`` transparency. colours: ``srgb`` converts to it; ``stored``
    leaves the levels as they are and gives their profile. metadata: EXIF and XMP too. EXIF's orientation is applied,
    and what has more than 8 bits per channel, CMYK, animations and more than ``max_pixels`` are refused, before the
    pixels are decoded. Metadata that is damaged is left out with a warning; whatever else is wrong is a CodecError in
    one line that begins with ``name``. if_clear, if_large: what it advises.
    """
    if name is None:
        name = str(source) if isinstance(source, (str, Path)) else "standard input"
        name = "image" if isinstance(source, Image.Image) else name
    limit = Limit(max_pixels, if_large)
    try:
        with _library, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if isinstance(source, Image.Image):
                limit.check(*source.size)
                return _picture(source, _said(source), name, limit, alpha, if_clear, colours, metadata)
            found = beside(source if isinstance(source, bytes) else _content(Path(source), limit))
            if found.bits > 8:
                raise PictureError(f"more than 8 bits per channel ({found.bits}); convert it to 8 bits first")
            if found.size is not None:
                limit.check(*found.size)
            with _opened(found) as image, _unheard(image.format == "TIFF"):
                return _picture(image, found, name, limit, alpha, if_clear, colours, metadata)
    except PictureError as e:
        raise PictureError(f"{name}: {_line(e)}") from None
    except UnidentifiedImageError:
        raise PictureError(f"{name}: not an image") from None
    except Image.DecompressionBombError:
        raise PictureError(f"{name}: too many pixels; {limit}") from None
    except MemoryError:
        raise PictureError(f"{name}: not enough memory for this picture") from None
    except OSError as e:
        raise PictureError(f"{name}: {_line(e.strerror or e)}") from None
    except Exception as e:  # whatever a library says of bytes that it did not expect
        raise PictureError(f"{name}: damaged image: {_line(e) or type(e).__name__}") from None


def _line(text) -> str:
    """Fit to be shown: a library may quote what it read."""
    return "".join(c if c.isprintable() else "?" for c in " ".join(str(text).split()))[:200]


@dataclass(frozen=True)
class Limit:
    """How many pixels a picture may have, and what to do about more."""

    pixels: int
    advice: str

    def __str__(self) -> str:
        return f"at most {self.pixels} ({self.advice})"

    def check(self, width: int, height: int) -> None:
        if width * height > self.pixels:
            raise PictureError(f"{width}x{height} pixels; {self}")
        if width < 1 or height < 1 or max(width, height) > 65535:
            raise PictureError(f"{width}x{height} pixels; sides are 1 to 65535")


def _content(path: Path, limit: Limit) -> bytes:
    most = MAX_FILE + 16 * limit.pixels
    with path.open("rb") as file:
        data = file.read(most + 1) if os.fstat(file.fileno()).st_size <= most else None
    if data is None or len(data) > most:
        raise PictureError(f"more than {most} bytes; pictures have {limit} pixels")
    return data


def _opened(found: Beside) -> Image.Image:
    """The image, of any size; pixels are read later."""
    with _unlimited():
        try:
            image = Image.open(io.BytesIO(found.bare), formats=FORMATS)
        except Exception:
            # The library reads the EXIF of AVIF at once, and stumbles if it is odd: a name that it does not know.
            if found.bare[4:8] != b"ftyp" or b"Exif" not in found.bare:
                raise
            image = Image.open(io.BytesIO(found.bare.replace(b"Exif", b"skip")), formats=FORMATS)
            found.trouble.append("its EXIF is damaged and has been left out")
    if image.format == "AVIF":  # it knows which EXIF is the picture's, and has put its turn into it
        found.exif, found.xmp = image.info.get("exif"), image.info.get("xmp")
    elif found.icc is None and image.format not in ("PNG", "TIFF"):
        found.icc = image.info.get("icc_profile")
    return image


@contextmanager
def _unlimited():
    """The library opens what is larger than its own limit; ``_library`` is held."""
    kept, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = kept


def open_unlimited(data: bytes, kind: str) -> Image.Image:
    """An image of a kind of file, of any size; its pixels are not read yet, so that the caller can look at the size."""
    with _library, _unlimited():
        return Image.open(io.BytesIO(data), formats=[kind])


@contextmanager
def _unheard(really: bool):
    """Nothing is written to stderr: libtiff says there what it finds wrong, beside the error that it returns."""
    try:
        kept = os.dup(2) if really else None
    except OSError:  # closed
        kept = None
    if kept is None:
        yield
        return
    try:
        with open(os.devnull, "wb") as nothing:
            os.dup2(nothing.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _said(image: Image.Image) -> Beside:
    """The same of a PIL image, of which there may be no file."""
    info, out = image.info, Beside(b"")
    transparent, raw = info.get("transparency"), [tile[3] for tile in getattr(image, "tile", ())]
    if image.mode in ("1", "L", "RGB") and transparent is not None:
        scale = {"L;2": 85, "L;4": 17}.get(raw[0], 1) if raw and isinstance(raw[0], str) else 1
        alone = 255 * bool(transparent) if image.mode == "1" else transparent
        out.transparent = alone if isinstance(alone, tuple) else (int(alone) * scale,)
    image.load()
    try:
        out.turn = image.getexif().get(0x0112, 1)
    except Exception:
        out.turn = 1
        out.trouble.append("its EXIF is damaged and has been left out")
    out.icc, out.srgb = info.get("icc_profile"), "srgb" in info
    out.gamma, out.chromaticities = info.get("gamma"), info.get("chromaticity")
    out.exif, out.xmp = info.get("exif"), info.get("xmp")
    return out


def _picture(image, found: Beside, name, limit: Limit, alpha, if_clear, colours, metadata) -> Picture:
    limit.check(*image.size)
    if image.format not in SEVERAL and (frames := getattr(image, "n_frames", 1)) > 1:
        what = f"{frames} pages" if image.format in ("TIFF", "DCX") else f"an animation of {frames} frames"
        raise PictureError(f"{what}; extract one first")
    if deep := _deep_mode(image):
        raise PictureError(f"more than 8 bits per channel (mode {deep}); convert it to 8 bits first")
    if image.mode not in MODES:
        raise PictureError(f"colour space {image.mode} is not supported; convert it to RGB first")
    array, clear = _levels(image, found)
    limit.check(*array.shape[1::-1])  # of icons, what is inside may be of another size
    if clear is not None and (alpha == "drop" or clear.min() == 255):
        clear = None
    if clear is not None and alpha == "refuse":
        raise PictureError(f"has transparency, {if_clear}")
    trouble = list(found.trouble)
    icc, stored = _profile(found, array.ndim == 2, trouble), array
    if icc is not None and colours == "srgb":
        array, wrong = to_srgb(array, icc)
        trouble += [wrong] if wrong else []
    elif icc is not None and not is_usable(icc):
        icc = None
        trouble.append("its ICC profile is damaged and has been left out")
    converted = array is not stored
    if array.ndim == 3 and is_grey(array):
        array = array[..., 0]
    array = array if clear is None else np.dstack([array, clear])
    array = turned(array, found.turn or orientation(found.exif, found.xmp))
    kept = {"icc": icc if colours == "stored" else None, "converted": converted}
    if metadata:
        kept |= {"exif": found.exif and upright(found.exif), "xmp": found.xmp and upright_xmp(found.xmp)}
    return Picture(array, **kept, warnings=tuple(f"{name}: {_line(text)}" for text in dict.fromkeys(trouble)))


def _levels(image: Image.Image, found: Beside) -> tuple[np.ndarray, np.ndarray | None]:
    """Levels (H, W, 3) or (H, W) as the file has them, and alpha (H, W) if there is any."""
    if image.mode in ("P", "PA", "LA", "La", "RGBA", "RGBa"):
        grey = image.mode in ("LA", "La")
        array = np.array(image.convert("RGBA"))
        return array[..., 0] if grey else array[..., :3], array[..., 3]
    array = np.array(image.convert("L" if image.mode in ("1", "L") else "RGB"))
    if found.transparent is None:
        return array, None
    same = array == np.array(found.transparent)[: array.shape[2] if array.ndim == 3 else 1]
    return array, np.where(same.all(-1) if array.ndim == 3 else same, 0, 255).astype(np.uint8)


def _profile(found: Beside, grey: bool, trouble: list[str]) -> bytes | None:
    """The profile of what a file says of its colours; of several the first that it has in the order of PNG's rules.

    Portable Network Graphics, third edition, 4.3: cICP, iCCP, sRGB, gAMA and cHRM. In AVIF the profile is first.
    """
    if found.cicp is not None and not (found.icc and found.avif):
        primaries, transfer, full = found.cicp
        if not full:
            raise PictureError("its levels are those of video (cICP, narrow range); convert it to sRGB first")
        return profile_of_codes(primaries, transfer, grey)
    if found.icc or found.srgb or (found.gamma is None and found.chromaticities is None):
        return found.icc or None
    try:
        return profile_of_png(found.gamma, found.chromaticities, grey)
    except ValueError:
        trouble.append("its gAMA or cHRM makes no sense and has been left out")
        return None


def _deep_mode(image: Image.Image) -> str | None:
    """The mode of an image of more than 8 bits per channel; None for others.

    Pillow opens colours of 16 bits as if they had 8, and only what it is about to read says otherwise.
    """
    if image.mode.startswith(("I", "F")):
        return image.mode
    for codec, *_, arguments in getattr(image, "tile", ()):
        raw, *more = arguments if isinstance(arguments, tuple) and arguments else (arguments,)
        if isinstance(raw, str) and ";16" in raw and not raw.startswith("BGR"):  # BGR;16 has 5 or 6 bits
            return raw
        if codec == "SGI16" or (codec in ("ppm", "ppm_plain") and more and more[0] > 255):
            return f"{image.mode}, 16 bits"
    return None


def is_grey(array: np.ndarray) -> bool:
    """Whether a picture (H, W, 3) has three equal channels."""
    return bool((array == array[..., :1]).all())
