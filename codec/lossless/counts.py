"""What came before in the same place, counted: chances of a value's last bits by context, compiled.

Cameras and scanners keep chroma at half the resolution, rounded to whole numbers, so that of all colours few are
possible where green is known, and regressions can't see which. Counts can (context mixing: Mahoney 2005, PAQ).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ddpm.compiled import compiled

KINDS = 5  # of contexts
LAST = 4  # bits that are counted, under those before them
NODES = 1 << LAST  # of the tree of the last bits, the first unused
FEWEST, MOST = 1 << 12, 1 << 19  # slots of a kind of context
EARLY, LIMIT = 1.3, 160  # the first sight moves a chance of 1/2 by 1/2 / EARLY; the sights from which old ones fade
LEAST, SCALE = 2e-4, 1 << 16  # of chances, and what they are kept in


class Counts(NamedTuple):
    """slots: where the contexts of this value are, (KINDS,). owners: whose a slot is, or 0, (KINDS, slots). chances:
    that a bit is 1, in 1 / SCALE, uint16 (KINDS, slots, NODES). seen: how often the bit was coded, at most LIMIT,
    uint8 (KINDS, slots, NODES)."""

    slots: np.ndarray
    owners: np.ndarray
    chances: np.ndarray
    seen: np.ndarray


def counts_of(values: int) -> Counts:
    """Of a picture of so many values, of which nothing is known."""
    slots = FEWEST
    while slots < min(values // 2, MOST):
        slots *= 2
    return Counts(
        np.zeros(KINDS, np.int64),
        np.zeros((KINDS, slots), np.int64),
        np.zeros((KINDS, slots, NODES), np.uint16),
        np.zeros((KINDS, slots, NODES), np.uint8),
    )


@compiled
def find(c, first_bits, keys, counts):
    """The slots of this value, whose first bits are known: those of its contexts, or new ones in others' place. keys:
    the contexts, (KINDS,)."""
    for k in range(KINDS):
        owner = ((int(keys[k]) * 3 + c) << (8 - LAST) | first_bits) + 1
        mixed = ((owner & 0xFFFFFFFF) * 0x9E3779B1) & 0xFFFFFFFF
        mixed ^= mixed >> 15
        mixed = (mixed * 0x2C1B3C6D) & 0xFFFFFFFF
        slot = (mixed ^ (mixed >> 13)) & (counts.owners.shape[1] - 1)
        if counts.owners[k, slot] != owner:
            counts.owners[k, slot] = owner
            counts.chances[k, slot] = SCALE // 2
            counts.seen[k, slot] = 0
        counts.slots[k] = slot


@compiled
def count(node, bit, counts):
    """A bit that is known now, after ``node``: the bits since ``find`` behind a 1."""
    for k in range(KINDS):
        slot = counts.slots[k]
        p, n = counts.chances[k, slot, node] / SCALE, int(counts.seen[k, slot, node])
        p = min(max(p + (bit - p) / (n + EARLY), LEAST), 1 - LEAST)
        counts.chances[k, slot, node] = int(p * SCALE)
        if n < LIMIT:
            counts.seen[k, slot, node] = n + 1
