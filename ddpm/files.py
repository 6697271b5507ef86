"""Files that are written whole or not at all, and folders that are not left behind empty; what is deflated in them."""

from __future__ import annotations

import os
import secrets
import stat
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .errors import naming


def is_special(path: str | Path) -> bool:
    """Whether a name stands for a pipe, a device or the like, which can be written into but not replaced."""
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def replace(path: Path, write: Callable[[Path], object]) -> None:
    """Have ``write`` fill a temporary file beside ``path`` and put it there: nobody meets half a file.

    A file that is replaced keeps its mode, and a new one gets that which new files have here, also where a library
    makes a temporary file of its own and keeps it private. A link stays, and the file that it leads to is replaced;
    what is no regular file is written into. OSError where something cannot be written.
    """
    if is_special(path):
        write(path)
        return
    target = Path(os.path.realpath(path))
    temporary = target.with_name(f".{secrets.token_hex(8)}.tmp")  # short: names may be as long as they can be
    try:
        temporary.touch(exist_ok=False)
        kept = target if target.is_file() else temporary
        mode = stat.S_IMODE(kept.stat().st_mode)
        write(temporary)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        if stat.S_IMODE(temporary.stat().st_mode) != mode:
            with suppress(OSError):  # some file systems know no modes
                temporary.chmod(mode)
        os.replace(temporary, target)
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def write_whole(path: str | Path, data: bytes) -> None:
    """``replace`` with ``data``; CodecError where they cannot be written."""
    with naming(path):
        replace(Path(path), lambda p: p.write_bytes(data))


def inflated(data: bytes, most: int) -> bytes:
    """What has been deflated, ``most`` bytes or less; zlib.error or ValueError where it is not that."""
    engine = zlib.decompressobj()
    out = engine.decompress(data, most)
    if not engine.eof:
        raise ValueError("cut, or too long")
    return out


@contextmanager
def new_folder(path: Path) -> Iterator[None]:
    """A folder to write into, with those above it; what was made of them goes again if it ends in an error, empty."""
    made = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        with suppress(OSError):
            for folder in made:
                folder.rmdir()
        raise
