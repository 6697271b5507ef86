"""The one family of errors of all packages: a mistake of the user's or of a file, told in a line fit for a user."""

from collections.abc import Iterator
from contextlib import contextmanager


class CodecError(Exception):
    """Something is wrong with the input; the message is one line fit for a user."""

    @property
    def lines(self) -> tuple[str, ...]:
        """What there is to say, a line for each mistake."""
        return (str(self),)


class UnknownModel(CodecError):
    """No such model, a file that does not hold one, or none with the fingerprint that a file names."""


class PictureError(CodecError, ValueError):
    """No picture, a damaged one, or one of a kind that is not taken."""


class BadPictures(PictureError):
    """Several files of one call are wrong; ``lines`` has them all."""

    def __init__(self, lines):
        super().__init__("; ".join(lines))
        self._lines = tuple(lines)

    @property
    def lines(self) -> tuple[str, ...]:
        return self._lines


@contextmanager
def naming(path: object, kind: type[CodecError] = CodecError) -> Iterator[None]:
    """What the system refuses in here is an error of this kind, about ``path``."""
    try:
        yield
    except OSError as e:
        raise kind(f"{path}: {e.strerror or e}") from None
