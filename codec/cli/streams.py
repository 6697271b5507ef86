"""Standard streams as they are handed over: closed, full, cut off, in any encoding. Lost words never end the work."""

from __future__ import annotations

import errno
import io
import os
import select
import sys

from codec.errors import CodecError, naming


class Tolerant(io.RawIOBase):
    """A descriptor to write into. It never refuses: ``trouble`` is the first error, and after it all is dropped."""

    def __init__(self, fd: int, trouble: OSError | None = None):
        self.fd, self.trouble = fd, trouble

    def fileno(self) -> int:
        return self.fd

    def isatty(self) -> bool:
        return self.trouble is None and os.isatty(self.fd)

    def writable(self) -> bool:
        return True

    def write(self, data) -> int:
        while self.trouble is None:
            try:
                return os.write(self.fd, data)
            except BlockingIOError:
                select.select([], [self.fd], [])
            except OSError as e:
                self.trouble = e
        return len(data)


def prepare() -> None:
    """Words go out in any encoding, and to streams that take none. Descriptors 0 to 2 are never those of a file."""
    for fd, mode in ((0, os.O_RDONLY), (1, os.O_WRONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, mode)  # gets the lowest number that is free
    for fd, name in ((1, "stdout"), (2, "stderr")):
        stream = getattr(sys, name)
        if stream is not getattr(sys, f"__{name}__"):  # somebody listens in this process
            continue
        closed = OSError(errno.EBADF, "closed") if stream is None else None
        raw = Tolerant(fd, closed)
        encoding = getattr(stream, "encoding", None) or "utf-8"
        lines = fd == 2 or raw.isatty()
        words = io.TextIOWrapper(io.BufferedWriter(raw), encoding, errors="backslashreplace", line_buffering=lines)
        setattr(sys, name, words)


def trouble_of(stream) -> OSError | None:
    """What kept a stream from taking what was written."""
    return getattr(getattr(getattr(stream, "buffer", None), "raw", None), "trouble", None)


def read_data() -> bytes:
    """All of standard input."""
    if sys.stdin is None:
        raise CodecError("standard input is closed")
    return sys.stdin.buffer.read()


def write_data(data: bytes) -> None:
    """To standard output; CodecError if it does not take all of them."""
    with naming("standard output"):
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    if found := trouble_of(sys.stdout):
        raise CodecError(f"standard output: {found.strerror}")


def finish(code: int) -> int:
    """The exit code, which is not 0 where words of standard output were lost; says so unless a reader just left."""
    sys.stdout.flush()
    found = trouble_of(sys.stdout)
    if code or not found:
        return code
    if found.errno != errno.EPIPE:
        print(f"error: standard output: {found.strerror}", file=sys.stderr)
    return 2
