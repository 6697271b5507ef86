"""Lists of pictures by a hash, so that a model's card says what it has seen and anybody can check it.

A picture's digest is SHA-256 of "H W C\\n" in ASCII and its H x W x C bytes as they are read; a list's is SHA-256 of
its pictures' digests (32 bytes each) in ascending order. Names, the order and the format of files do not matter.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from ddpm.errors import BadPictures, CodecError

from .data import load_images


def digest(picture: np.ndarray) -> bytes:
    """Of one picture, uint8 (H, W, C)."""
    found = hashlib.sha256(f"{' '.join(map(str, picture.shape))}\n".encode())
    found.update(np.ascontiguousarray(picture).data)
    return found.digest()


def entry(source: str, digests: Iterable[bytes]) -> dict:
    """What a card says of a list: where it came from, how many pictures it has, its hash."""
    digests = sorted(digests)
    return {"source": str(source), "pictures": len(digests), "sha256": hashlib.sha256(b"".join(digests)).hexdigest()}


def read(
    sources: Sequence[str], tile=None, exclude: Sequence[str] = (), skip_bad=False
) -> tuple[list[np.ndarray], dict]:
    """All pictures of the sources, in order, and their lists: ``used`` and, if files are left out, ``excluded``.

    Arguments and errors are those of ``load_images``.
    """
    pictures, used, excluded, bad = [], [], [], []
    for source in sources:
        try:
            found = load_images(source, tile, exclude, skip_bad=skip_bad)
        except CodecError as e:
            bad += e.lines
            continue
        digests = [digest(picture) for picture in found]
        pictures += found
        used.append(entry(source, digests))
        if exclude:
            every = load_images(source, tile, skip_bad=True, say=lambda _: None)
            left = Counter(map(digest, every)) - Counter(digests)
            if left:
                excluded.append(entry(source, left.elements()))
    if bad:
        raise BadPictures(bad)
    return pictures, {"used": used} | ({"excluded": excluded} if excluded else {})


def same(lists: Sequence[dict], others: Sequence[dict]) -> bool:
    """Whether they have the same pictures, whatever their sources are called."""
    return sorted(e["sha256"] for e in lists) == sorted(e["sha256"] for e in others)


def named(lists: Sequence[dict]) -> str:
    """In words."""
    return ", ".join(f"{e['source']} ({e['pictures']:,} pictures, {e['sha256'][:8]})" for e in lists)
