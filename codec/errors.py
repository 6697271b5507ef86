"""The package's one family of errors, which ``ddpm`` shares: a mistake of the user's or of a file, told in one line."""

from ddpm.errors import CodecError

__all__ = ["CodecError", "DamagedFile", "NotOurFile", "UnknownModel"]


class NotOurFile(CodecError):
    """The bytes are no ddpm-codec file, or one of a version that this program does not know."""


class DamagedFile(CodecError):
    """A checksum or a length contradicts the content."""


class UnknownModel(CodecError):
    """No such model, or none with the fingerprint that the file names."""
