"""Training and test data: image folders, CIFAR-10 in its official layouts, contact sheets; crops on the device."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ddpm.errors import BadPictures, PictureError

from .pictures import load_picture, picture_files, suffixes, tell

if TYPE_CHECKING:
    import torch


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
    try:
        if any(ch in str(source) for ch in "*?[") and not source.exists():
            base, pattern = Path(source.anchor or "."), str(source.relative_to(source.anchor or "."))
            return sorted(p for p in base.glob(pattern) if p.is_file())
        if not source.is_dir():
            source.stat()
            return [source]
        if cifar := sorted(p for p in source.rglob("data_batch_*") if p.is_file()):
            return cifar
        return picture_files(source, say)
    except OSError as e:
        raise PictureError(f"{source}: {e.strerror or e}") from None


def _load_file(path: Path, tile: int | None, say) -> list[np.ndarray]:
    try:
        with path.open("rb") as file:
            pickled = file.read(1) == b"\x80"
    except OSError as e:
        raise PictureError(f"{path}: {e.strerror or e}") from None
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


def box_mean(image: np.ndarray, k: int) -> np.ndarray:
    """Mean of k x k boxes, rounded to uint8; odd rows and columns at the far edges are dropped."""
    h, w = image.shape[0] // k, image.shape[1] // k
    return image[: h * k, : w * k].reshape(h, k, w, k, 3).mean((1, 3)).round().astype(np.uint8)


class Crops:
    """Random square crops, flipped left-right at random, drawn on the device from all pictures at several scales.

    Pictures lie in one flat uint8 tensor; a batch is one gather. A picture is chosen in proportion to the number of its
    crop positions, a scale by ``weights``; a share ``share_drawn`` of the crops are of drawn.py.
    """

    def __init__(self, images: list[np.ndarray], size: int, scales=(1,), weights=None, device="cpu", share_drawn=0.0):
        import torch

        flat, table, share = [], [], []
        weights = weights or [1.0] * len(scales)
        offset = 0
        for scale, weight in zip(scales, weights):
            scaled = [box_mean(im, scale) if scale > 1 else im for im in images]
            scaled = [im for im in scaled if min(im.shape[:2]) >= size]
            positions = np.array([(im.shape[0] - size + 1) * (im.shape[1] - size + 1) for im in scaled], float)
            if not len(scaled):
                raise ValueError(f"no picture holds a {size}x{size} crop at scale 1/{scale}")
            share.append(weight * positions / positions.sum())
            for im in scaled:
                table.append((offset, *im.shape[:2]))
                flat.append(torch.from_numpy(im.flatten()))
                offset += im.size
        self.size, self.device, self.share_drawn = size, torch.device(device), share_drawn
        self.pixels = torch.cat(flat).to(device)
        self.table = torch.tensor(table, device=device)
        self.share = torch.tensor(np.concatenate(share), device=device)

    def sample(self, n: int, generator: torch.Generator) -> torch.Tensor:
        """(n, 3, size, size) uint8."""
        import torch

        from ddpm.training.synthetic import drawn

        dev, size = self.device, self.size
        offset, h, w = self.table[torch.multinomial(self.share, n, replacement=True, generator=generator)].T
        u = torch.rand(3, n, generator=generator, device=dev, dtype=torch.float64)
        y = (u[0] * (h - size + 1)).long()
        x = (u[1] * (w - size + 1)).long()
        i = torch.arange(size, device=dev)
        column = torch.where((u[2] < 0.5)[:, None], i, size - 1 - i) + x[:, None]
        row = i + y[:, None]
        index = offset[:, None, None] + 3 * (row[:, :, None] * w[:, None, None] + column[:, None, :])
        crops = torch.stack([self.pixels[index + c] for c in range(3)], 1)
        if self.share_drawn:
            chosen = torch.rand(n, generator=generator, device=dev) < self.share_drawn
            crops = torch.where(chosen[:, None, None, None], drawn(n, size, generator, dev), crops)
        return crops
