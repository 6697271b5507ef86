"""The package's one family of errors, which ``ddpm`` shares: a mistake of the user's or of a file, told in one line."""

import shlex
from collections.abc import Iterator
from contextlib import contextmanager

from ddpm.errors import CodecError, UnknownModel, naming

__all__ = [
    "CodecError",
    "DamagedFile",
    "NotExact",
    "NotOurFile",
    "Uncalibrated",
    "UnknownModel",
    "as_mistakes",
    "naming",
    "trouble",
]


class NotOurFile(CodecError):
    """The bytes are no ddpm-codec file, or one of a version that this program does not know."""


class DamagedFile(CodecError):
    """A checksum or a length contradicts the content."""


class Uncalibrated(UnknownModel):
    """The model has no coding tables yet; says how to get them, or what else would do."""

    def __init__(self, model, instead: str = ""):
        if run := getattr(model, "run", None):
            calibration = shlex.join(["ddpm-codec", "calibrate", run])
            words = f"{run} is a training run, without coding tables yet; {instead}measure them: {calibration}"
            super().__init__(f"{words} PICTURES -o NAME")
        else:
            super().__init__(f"model {model.name} has no coding tables; {instead}calibrate it first")


class NotExact(UnknownModel):
    """The model's network answers every machine a little differently; says how to make it exact."""

    def __init__(self, model):
        exact = shlex.join(["ddpm-codec", "calibrate", getattr(model, "run", None) or model.name])
        super().__init__(f"files need an exact network, and {model.name} has none: {exact} PICTURES --exact -o NAME")


def trouble(e: OSError) -> str:
    """What the system refused, and the file if it says which."""
    return f"{e.filename}: {e.strerror}" if e.filename and e.strerror else e.strerror or str(e)


@contextmanager
def as_mistakes() -> Iterator[None]:
    """What a library finds wrong in here, with values or with files, is the user's mistake."""
    try:
        yield
    except CodecError:
        raise
    except OSError as e:
        raise CodecError(trouble(e)) from None
    except ValueError as e:
        raise CodecError(str(e)) from None
