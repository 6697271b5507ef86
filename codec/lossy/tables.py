"""What turns a model into a code: the tables that calibration measured, as the model's card has them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from codec.errors import Uncalibrated, UnknownModel
from ddpm.diffusion.bands import COLOURS, EVEN, RINGS, Bands, sizes_of
from ddpm.diffusion.schedule import schedule_from_config

from .plan import LONG, TILTS, Plan

if TYPE_CHECKING:
    from ddpm.models.model import DDPM

MEMORY = 16  # bits of the longest register that there are labels for
SCALES = (1, 2, 4, 8, 16)
Group = tuple[int, int]  # colour, and 0 for the even or 1 for the odd places
Place = tuple[int, int, int]  # a neighbour: colour, rows below, columns to the right
# What every code does, and cards say, since codes were that did not.
SAID = {"long": LONG, "free": True, "mirrored": True, "sphere": True, "opposed": True}


@dataclass(frozen=True)
class Context:
    """What known pixels say of others, see codec/lossless/context.py.

    groups: in the order in which they are coded, each with its neighbours' weights, (classes,) each, and what is
    added to its scales, (classes,). edges: scales from which the next class of pixels begins, rising.
    """

    edges: np.ndarray
    groups: dict[Group, tuple[dict[Place, np.ndarray], np.ndarray]]

    @classmethod
    def from_json(cls, tables: dict) -> Context:
        """As a model's card has it."""
        groups = {
            (colour, odd): ({tuple(place): np.array(w) for *place, w in weights}, np.array(narrower))
            for colour, odd, weights, narrower in tables["groups"]
        }
        return cls(np.array(tables["edges"]), groups)

    def to_json(self) -> dict:
        """The inverse of ``from_json``."""
        groups = [
            [*group, [[*place, w.tolist()] for place, w in weights.items()], narrower.tolist()]
            for group, (weights, narrower) in self.groups.items()
        ]
        return {"edges": self.edges.tolist(), "groups": groups}


@dataclass(frozen=True)
class Tables:
    """Of grey pictures, or of those of three colours; one entry for each level, from infinity on.

    bits: TILTS rows of cumulative 2^-24 bits/dim, see ``Plan``. reference: what an ideal channel needs for each step,
    bits/dim; one entry less. bands, powers: the variance of each band of the cosines relative to a power of the mean of
    m over the block, and the exponents: RINGS numbers for each colour, see ``Cosines``. context: what known pixels say
    of others, for lossless files.
    """

    bits: tuple[tuple[int, ...], ...] = ()
    reference: tuple[float, ...] = ()
    bands: tuple[tuple[float, ...], ...] = ()
    powers: tuple[tuple[float, ...], ...] = ()
    context: Context | None = None


@dataclass(frozen=True)
class CodingTables:
    """mean, variance: of x over all pictures, each colour on [-1, 1], and over all. block: side of the cosines' blocks.

    surplus: bits sent per bit of KL. memory: bits of the trellis' register, at most. min_bits: of a step, at least.
    levels: descending gammas, without infinity, where a chain begins. scales: how many times smaller the network sees
    the picture, at each level from infinity on. noise: the model's schedule, if it has noise by frequency.
    """

    mean: tuple[float, ...]
    variance: float
    block: int
    surplus: float
    memory: int
    min_bits: int
    levels: tuple[float, ...] = ()
    scales: tuple[int, ...] = ()
    colour: Tables = field(default_factory=Tables)
    grey: Tables = field(default_factory=Tables)
    noise: Bands = EVEN

    @property
    def gammas(self) -> tuple[float, ...]:
        """The levels, infinity first."""
        return (math.inf, *self.levels)

    def of(self, grey: bool) -> Tables:
        return self.grey if grey else self.colour

    def plan(self, size: tuple[int, int], grey: bool, *, stride=1, every_level=False) -> Plan:
        """For pictures of ``size`` (height, width). every_level: none is skipped for the sake of messages."""
        dims, tables = size[0] * size[1] * (1 if grey else COLOURS), self.of(grey)
        whole = max(1, next((i for i, scale in enumerate(self.scales) if i and scale == 1), 1))
        least = 0 if every_level else self.min_bits
        coded = () if self.noise.even else self.coded(size, grey)
        return Plan(dims, self.gammas, tables.bits, least, tables.reference, stride=stride, whole=whole, coded=coded)

    def coded(self, size: tuple[int, int], grey: bool) -> tuple[int, ...]:
        """How many coordinates of a picture of that size are not noise alone, at each level."""
        counts = sizes_of(self.block, size, 1 if grey else COLOURS)
        return tuple(int(counts[self.noise.snr(g)[: len(counts)] > 0].sum()) for g in self.gammas)

    @classmethod
    def of_model(cls, model: DDPM) -> CodingTables | None:
        """Those of the model's card; None if it has none. UnknownModel for tables that cannot be."""
        return cls.of_coding(model.coding, model.name, model.config["schedule"])

    @classmethod
    def of_coding(cls, coding: dict | None, name: str, schedule: dict) -> CodingTables | None:
        """The same of these entries of a card."""
        if not coding:
            return None
        try:
            found = cls.from_card(coding)
            noise = schedule_from_config(schedule) if schedule["kind"] == Bands.kind else EVEN
            assert isinstance(noise, Bands)
            return found if noise is EVEN else found.with_noise(noise)
        except (KeyError, TypeError, ValueError, OverflowError) as e:
            raise UnknownModel(f"model {name}: its coding tables cannot be used: {e!r}") from None

    def with_noise(self, noise: Bands) -> CodingTables:
        """For a schedule by frequency; ValueError if the tables are of another."""
        if self.block != noise.block or self.levels[0] > noise.gamma_max or self.levels[-1] != noise.gamma_min:
            raise ValueError("they are of another schedule")
        return replace(self, noise=noise)

    @staticmethod
    def context_of(model: DDPM, grey: bool) -> Context | None:
        """What a model with or without tables knows of the neighbours of a pixel."""
        tables = CodingTables.of_model(model)
        return None if tables is None else tables.of(grey).context

    @classmethod
    def from_card(cls, card: Mapping) -> CodingTables:
        """KeyError, TypeError or ValueError for tables that are not whole, or of another kind of code."""
        for name, value in SAID.items():
            if card.get(name, value) != value:
                raise ValueError(f"{name} {card[name]!r}")
        levels, scales = _floats(card["levels"]), tuple(map(int, card["scales"]))
        tables = {}
        for kind, prefix, colours in (("colour", "", COLOURS), ("grey", "grey_", 1)):
            bits = tuple(tuple(map(int, row)) for row in card[prefix + "tables"])
            bands, powers = (tuple(map(_floats, card[prefix + name])) for name in ("bands", "powers"))
            context = Context.from_json(card[prefix + "context"]) if prefix + "context" in card else None
            tables[kind] = Tables(bits, _floats(card[prefix + "reference"]), bands, powers, context)
            _check(tables[kind], len(levels), colours)
        found = cls(
            _floats(card["mean"]),
            float(card["variance"]),
            int(card["block"]),
            float(card["surplus"]),
            int(card["memory"]),
            int(card["min_bits"]),
            levels,
            scales,
            **tables,
        )
        if not (
            len(found.mean) == COLOURS
            and found.variance > 0
            and 1 <= found.block <= 256
            and found.surplus > 0
            and 0 <= found.memory <= MEMORY
            and found.min_bits >= 0
            and len(levels) >= 2
            and all(a > b for a, b in zip(found.gammas, levels))
            and len(scales) == len(levels) + 1
            and set(scales) <= set(SCALES)
        ):
            raise ValueError("a value is out of range")
        return found

    def to_card(self) -> dict:
        """The inverse of ``from_card``."""
        card = {name: getattr(self, name) for name in ("variance", "block", "surplus", "memory", "min_bits")}
        card = {"mean": list(self.mean), **card, "levels": list(self.levels), "scales": list(self.scales)}
        for tables, prefix in ((self.colour, ""), (self.grey, "grey_")):
            card[prefix + "bands"], card[prefix + "powers"] = [[*map(list, v)] for v in (tables.bands, tables.powers)]
            card[prefix + "reference"] = list(tables.reference)
            card[prefix + "tables"] = [*map(list, tables.bits)]
            if tables.context is not None:
                card[prefix + "context"] = tables.context.to_json()
        return card


def tables_of(model: DDPM, instead: str = "") -> CodingTables:
    """Those of a model that has a code; else Uncalibrated, which may say what would do ``instead``."""
    tables = CodingTables.of_model(model)
    if tables is None:
        raise Uncalibrated(model, instead)
    return tables


def _floats(values: Sequence) -> tuple[float, ...]:
    found = tuple(map(float, values))
    if not all(map(math.isfinite, found)):
        raise ValueError("a value is not finite")
    return found


def _check(tables: Tables, levels: int, colours: int) -> None:
    """ValueError for tables that are not of so many levels."""
    if len(tables.bits) != TILTS or len(tables.reference) != levels:
        raise ValueError("tables that are not whole")
    for row in tables.bits:
        if len(row) != levels + 1 or row[0] != 0 or any(a > b for a, b in pairwise(row)):
            raise ValueError("a table that does not rise from 0 over all levels")
    for rows in (tables.bands, tables.powers):
        if len(rows) != levels + 1 or {*map(len, rows)} != {colours * RINGS}:
            raise ValueError("bands that are not whole")
