"""Many pictures in one file, by bits-back, at the length of the model's bound.

``create`` and ``extract`` are all that most need. They come with torch, so only when they are asked for (PEP 562).
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .archive import create, evaluations, extract

__all__ = ["create", "evaluations", "extract"]


def __getattr__(name: str):
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import archive

    return getattr(archive, name)
