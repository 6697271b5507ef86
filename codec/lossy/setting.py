"""What encoder and decoder of a file have in common."""

from __future__ import annotations

from dataclasses import dataclass

from ddpm.models.model import DDPM

from .plan import Plan
from .tables import CodingTables


@dataclass(frozen=True)
class Setting:
    """Of all pictures that go through the chain together: one size (height, width), grey or not, one seed of the shared
    randomness.
    """

    model: DDPM
    tables: CodingTables
    plan: Plan
    size: tuple[int, int]
    grey: bool = False
    seed: int = 0

    @classmethod
    def of(cls, model: DDPM, tables: CodingTables, size: tuple[int, int], *, grey=False, seed=0, stride=1) -> Setting:
        """With the plan that the tables give for the size."""
        return cls(model, tables, tables.plan(size, grey, stride=stride), size, grey, seed)
