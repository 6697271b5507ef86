"""Training and test data: image folders, CIFAR-10 in its official layouts, contact sheets."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ddpm.errors import BadPictures, PictureError, naming

from .pictures import load_picture, picture_files, suffixes, tell

MAX_PIXELS = 1 << 27  # per picture: contact sheets are large


def load_images(
    source: str | Path | Sequence[str | Path], tile: int | None = None, exclude=(), *, skip_bad=False, say=None
) -> list[np.ndarray]:
    """All pictures of ``source`` as (H, W, 3) uint8 arrays, read by the rules of pictures.py; grey ones as RGB.

    ``source`` is an image, a folder of images (searched deeply, in name order), a CIFAR-10 file or a folder of them
    (``data_batch_*``: python pickles or ``.bin``), a glob pattern, or several of these. ``tile``: each image is a
    contact sheet, cut row by row into squares of that side. ``exclude``: file names to leave out. CodecError if nothing
    is there, or that names all files that are wrong; with ``skip_bad`` they are left out. ``say`` gets a line for each
    of those, for what is odd about others, and for files that are no pictures; by default it writes to stderr.
    """
    say = tell if say is None else say
    sources = [source] if isinstance(source, (str, Path)) else source
    images, bad = [], []
    for source in sources:
        try:
            files = [f for f in _files(Path(source).expanduser(), say) if f.name not in set(exclude)]
        except PictureError as e:
            bad.append(str(e))
            continue
        if not files:
            bad.append(f"no images in {source}")
        for file in files:
            try:
                images += _load_file(file, tile, say)
            except PictureError as e:
                bad.append(str(e))
    if bad and (not skip_bad or not images):
        raise BadPictures(bad)
    for line in bad:
        say(f"left out: {line}")
    if not images:
        raise PictureError(f"no images in {', '.join(map(str, sources))}")
    return images


def _files(source: Path, say) -> list[Path]:
    with naming(source, PictureError):
        if any(ch in str(source) for ch in "*?[") and not source.exists():
            base, pattern = Path(source.anchor or "."), str(source.relative_to(source.anchor or "."))
            return sorted(p for p in base.glob(pattern) if p.is_file())
        if not source.is_dir():
            source.stat()
            return [source]
        if cifar := sorted(p for p in source.rglob("data_batch_*") if p.is_file()):
            return cifar
        return picture_files(source, say)


def _load_file(path: Path, tile: int | None, say) -> list[np.ndarray]:
    with naming(path, PictureError), path.open("rb") as file:
        pickled = file.read(1) == b"\x80"
    if path.suffix == ".bin":
        raw = np.fromfile(path, np.uint8)
        if raw.size % 3073:
            raise PictureError(f"{path}: not a CIFAR-10 binary file")
        planes = raw.reshape(-1, 3073)[:, 1:]
    elif pickled and path.suffix.lower() not in suffixes():
        planes = _unpickled(path)
    else:
        picture = load_picture(path, max_pixels=MAX_PIXELS)
        for line in picture.warnings:
            say(line)
        image = picture.array if picture.array.ndim == 3 else np.repeat(picture.array[..., None], 3, 2)
        return [image] if tile is None else list(cut_sheet(image, tile))
    return list(planes.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))


def _unpickled(path: Path) -> np.ndarray:
    try:
        with path.open("rb") as file:
            planes = _CifarUnpickler(file, encoding="bytes").load()[b"data"]
    except Exception as e:
        raise PictureError(f"{path}: neither a picture nor a CIFAR-10 file: {' '.join(str(e).split())}") from None
    if not (isinstance(planes, np.ndarray) and planes.dtype == np.uint8 and planes.shape[1:] == (3072,)):
        raise PictureError(f"{path}: not a CIFAR-10 file")
    return planes


class _CifarUnpickler(pickle.Unpickler):
    """Admits the arrays of CIFAR-10's official pickles and nothing else, so that no code can run."""

    ALLOWED = frozenset(
        {
            ("numpy.core.multiarray", "_reconstruct"),
            ("numpy._core.multiarray", "_reconstruct"),
            ("numpy", "ndarray"),
            ("numpy", "dtype"),
            ("_codecs", "encode"),
        }
    )

    def find_class(self, module, name):
        if (module, name) not in self.ALLOWED:
            raise pickle.UnpicklingError(f"not a CIFAR-10 file: it asks for {module}.{name}")
        return super().find_class(module, name)


def cut_sheet(sheet: np.ndarray, tile: int) -> np.ndarray:
    """A contact sheet (R * tile, C * tile, 3) -> (R * C, tile, tile, 3), row by row."""
    rows, columns = sheet.shape[0] // tile, sheet.shape[1] // tile
    cells = sheet[: rows * tile, : columns * tile].reshape(rows, tile, columns, tile, 3)
    return cells.transpose(0, 2, 1, 3, 4).reshape(-1, tile, tile, 3)
