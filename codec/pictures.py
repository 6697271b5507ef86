"""Pictures in and out: from any common file to 8-bit sRGB or grey arrays, and back to PNG."""

from __future__ import annotations

import io
import os
import secrets
import stat
import threading
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from .errors import CodecError

MAX_PIXELS = 1 << 24  # per picture, unless the caller raises it
_limit = threading.Lock()


def read_picture(
    source: str | Path | bytes, *, drop_alpha=False, keep_alpha=False, max_pixels=MAX_PIXELS
) -> np.ndarray:
    """An image file (path or content) -> uint8 (H, W, 3) sRGB, or (H, W) if it is grey.

    Transparency is refused, dropped, or kept as one more channel: (H, W, 4) or (H, W, 2). EXIF orientation is applied;
    an embedded ICC profile is converted to sRGB. Raises CodecError for anything that is not a still 8-bit grey or RGB
    picture of at most ``max_pixels``.
    """
    name = "standard input" if isinstance(source, bytes) else str(source)
    try:
        with _opened(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
            return to_array(image, name, drop_alpha=drop_alpha, keep_alpha=keep_alpha, max_pixels=max_pixels)
    except UnidentifiedImageError:
        raise CodecError(f"{name}: not an image") from None
    except Image.DecompressionBombError:
        raise CodecError(f"{name}: too many pixels; at most {max_pixels} (see --max-pixels)") from None
    except OSError as e:
        raise CodecError(f"{name}: {e.strerror or e}") from None
    except (ValueError, SyntaxError, EOFError) as e:
        raise CodecError(f"{name}: damaged image: {e}") from None


@contextmanager
def _opened(file):
    """The image in a file, of any size: pixels are read later, and ``to_array`` has a limit of its own before that."""
    with _limit:
        kept, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            image = Image.open(file)
        finally:
            Image.MAX_IMAGE_PIXELS = kept
    with image:
        yield image


def to_array(
    image: Image.Image, name="image", *, drop_alpha=False, keep_alpha=False, max_pixels=MAX_PIXELS
) -> np.ndarray:
    """A PIL image -> uint8 (H, W, 3) or (H, W); the rules of ``read_picture``."""
    width, height = image.size
    if width * height > max_pixels:
        raise CodecError(f"{name}: {width}x{height} pixels; at most {max_pixels} (see --max-pixels)")
    if width < 1 or height < 1 or max(width, height) > 65535:
        raise CodecError(f"{name}: {width}x{height} pixels; sides are 1 to 65535")
    if image.format != "MPO" and (frames := getattr(image, "n_frames", 1)) > 1:  # MPO: a photograph, then its previews
        what = f"{frames} pages" if image.format == "TIFF" else f"an animation of {frames} frames"
        raise CodecError(f"{name}: {what}; extract one first")
    if deep := _deep_mode(image):
        raise CodecError(f"{name}: more than 8 bits per channel (mode {deep}); convert it to 8 bits first")
    if image.mode not in ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX"):
        raise CodecError(f"{name}: colour space {image.mode} is not supported; convert it to RGB first")
    profile = image.info.get("icc_profile")
    image = ImageOps.exif_transpose(image)
    if image.mode in ("P", "PA", "LA", "La", "RGBa") or "transparency" in image.info:
        grey = image.mode in ("LA", "La")
        image = image.convert("RGBA")
        alpha = np.asarray(image)[..., 3]
        image = image.convert("L" if grey else "RGB")
    else:
        alpha = np.asarray(image)[..., 3] if image.mode == "RGBA" else None
        image = image.convert("L" if image.mode in ("1", "L") else "RGB")
    clear = alpha is not None and alpha.min() < 255 and not drop_alpha
    if clear and not keep_alpha:
        raise CodecError(f"{name}: has transparency, which a lossy file cannot keep; say --drop-alpha to go without")
    array = np.array(_to_srgb(image, profile, name))
    if array.ndim == 3 and is_grey(array):
        array = array[..., 0]
    return np.dstack([array, alpha]) if clear else array


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


def _to_srgb(image: Image.Image, profile: bytes | None, name: str) -> Image.Image:
    if not profile:
        return image
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        return ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, TypeError) as e:
        raise CodecError(f"{name}: its ICC profile cannot be converted to sRGB: {e}") from None


def png_bytes(array: np.ndarray) -> bytes:
    """uint8 (H, W, 3) or (H, W), with transparency or not -> the content of a PNG file."""
    out = io.BytesIO()
    Image.fromarray(array).save(out, "PNG")
    return out.getvalue()


def is_special(path: str | Path) -> bool:
    """Whether a name stands for a pipe, a device or the like, which can be written into but not replaced."""
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def write_whole(path: str | Path, data: bytes) -> None:
    """Write through a temporary file beside ``path``: the old content stays until the new is complete.

    A file that is replaced keeps its mode; a link stays, and the file that it leads to is replaced; what is no regular
    file is written into.
    """
    path = Path(path)
    try:
        if is_special(path):
            path.write_bytes(data)
            return
        target = Path(os.path.realpath(path))
        temporary = target.with_name(f".{secrets.token_hex(8)}.tmp")  # short: names may be as long as they can be
        try:
            with temporary.open("xb") as f:
                f.write(data)
                f.flush()
                with suppress(OSError):  # a new file has what the umask leaves
                    os.fchmod(f.fileno(), stat.S_IMODE(os.stat(target).st_mode))
                os.fsync(f.fileno())
            os.replace(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as e:
        raise CodecError(f"{path}: {e.strerror or e}") from None
