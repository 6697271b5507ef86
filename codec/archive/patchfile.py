"""A patch as a file of its own, where the stack has too few bits to borrow from: ours or PNG, whichever is smaller."""

from __future__ import annotations

from contextlib import suppress

import numpy as np

from codec.api import Codec
from codec.errors import CodecError, DamagedFile
from codec.images.pictures import is_grey, png_bytes, read_picture
from codec.target import Target
from ddpm.models.model import DDPM

from .patches import Kind, patch


def pack(x: np.ndarray, model: DDPM) -> bytes:
    """The file of a patch, uint8 (h, w, channels)."""
    x = np.ascontiguousarray(x[..., 0]) if is_grey(x) else x
    files = [png_bytes(x)]
    if model.coding:
        with suppress(CodecError):  # not every size has a code
            files.append(Codec(model).encode([x], Target(lossless=True))[0].data)
    return min(files, key=len)


def unpack(file: bytes, model: DDPM, kind: Kind) -> np.ndarray:
    """The patch (h, w, channels) that ``pack`` was given."""
    pixels = kind[0] * kind[1]
    if file[:1] == b"\x89":
        array = read_picture(file, max_pixels=pixels)
    else:
        array = Codec(model).decode([file], max_pixels=pixels)[0].array
    if array.shape[:2] != kind[:2] or array.shape[2:] not in ((), (kind[2],)):
        raise DamagedFile("a stored patch is not of the size that the table gives")
    return patch(array, 0, 0, kind)
