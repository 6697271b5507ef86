"""Models as far as their files go, and which of them a file is of. Nothing here computes, or needs torch.

A file names its model by the first byte of a fingerprint, or two. Where several known models share them, the checksum
of the whole file decides; a cut one could be of any of them, and is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from codec.errors import CodecError, DamagedFile, Uncalibrated, UnknownModel
from codec.lossy.plan import Plan
from codec.lossy.tables import CodingTables
from ddpm.models.store import find_model, read_card, shipped_models, weights_of

from .container import Header, model_bytes
from .file import Maker, Opened, check_pixels, open_stored, unpack

if TYPE_CHECKING:
    from ddpm.models.model import DDPM

ANY_SIZE = 1 << 32  # pixels


@dataclass(frozen=True)
class Opener:
    """Checks files of one model, without its network."""

    maker: Maker
    tables: CodingTables

    @classmethod
    def of(cls, model: DDPM) -> Opener:
        """Uncalibrated without coding tables."""
        if (tables := CodingTables.of_model(model)) is None:
            raise Uncalibrated(model)
        return cls(Maker.of(model), tables)

    @classmethod
    def of_card(cls, name: str, card: Mapping) -> Opener:
        """The same of a model's card, as ``read_card`` has it."""
        maker = Maker(name, bytes.fromhex(card["fingerprint"]), card["config"].get("native"))
        if (tables := CodingTables.of_coding(card.get("coding"), name, card["config"]["schedule"])) is None:
            raise Uncalibrated(maker)
        return cls(maker, tables)

    def plan(self, height: int, width: int, grey: bool, stride: int = 1) -> Plan:
        return self.tables.plan((height, width), grey, stride=stride)

    def open(self, data: bytes, max_pixels: int) -> Opened:
        """Check a file of this model, or one that needs none, whole or cut."""
        maker = self.maker
        header, at = Header.unpack(data, lambda model: maker.native if maker.fingerprint.startswith(model) else None)
        if not maker.fingerprint.startswith(header.model):
            raise UnknownModel(f"the file was not made with model {maker.name}")
        if header.stored:
            return open_stored(data, max_pixels)
        check_pixels(header, max_pixels)
        plan = self.plan(header.height, header.width, header.grey, header.stride)
        if header.steps > plan.steps:
            raise DamagedFile("the header promises more steps than its model has")
        return unpack(data, header, at, plan, maker)


@lru_cache(maxsize=1)
def known_cards() -> dict[str, dict]:
    """Of the models at hand, by their names."""
    return {name: read_card(path) for name, path in shipped_models().items()}


def opener_of(model: str) -> Opener:
    """That of a name, a line or a path."""
    path = find_model(model)
    if weights_of(path):
        return Opener.of_card(path.name, read_card(path))
    from ddpm.models.load import load_model  # torch reads what has no card of ours

    return Opener.of(load_model(model))


def model_of(data: bytes, model: str | None = None) -> str | None:
    """Which of the known models a file was made with; None if it needs none. ``model`` overrides the search."""
    named = model_bytes(data)
    if named == b"":
        return None
    if model is not None:
        return model
    cards = {} if named is None else known_cards()
    names = [name for name, card in cards.items() if bytes.fromhex(card["fingerprint"]).startswith(named or b"")]
    if not names:
        Header.unpack(data)
        assert named is not None  # else there is no header
        raise UnknownModel(f"no known model has the fingerprint {named.hex()} that the file names; give --model")
    if len(names) > 1:
        names = [name for name in names if _is_of(data, name)] or names
    if len(names) > 1:
        raise UnknownModel(f"cut or damaged, it may be of any of the models {', '.join(names)}; give --model")
    return names[0]


def open_file(data: bytes, model: str | None = None, max_pixels: int = ANY_SIZE) -> Opened:
    """Check a file, whole or cut, by the model that it names, or by ``model``."""
    name = model_of(data, model)
    return open_stored(data, max_pixels) if name is None else _opener(name).open(data, max_pixels)


def _opener(name: str) -> Opener:
    """``opener_of``, by the cards that have been read."""
    card = known_cards().get(name)
    return opener_of(name) if card is None else Opener.of_card(name, card)


def _is_of(data: bytes, name: str) -> bool:
    """Whether data are a whole file of this model."""
    try:
        return _opener(name).open(data, ANY_SIZE).info.complete
    except CodecError:
        return False
