"""Counts by context: against a dictionary of running means."""

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from codec.lossless.counts import EARLY, KINDS, LAST, LEAST, LIMIT, MOST, NODES, SCALE, count, counts_of, find


@given(st.integers(0, 2**31), st.integers(1, 400))
@settings(max_examples=60, deadline=None)
def test_chances_are_running_means(seed, n):
    rng, counts, known = np.random.default_rng(seed), counts_of(1 << 20), {}
    owners, places = {}, rng.integers(0, 1 << 26, (4, KINDS))
    for _ in range(n):
        key, c, first = places[rng.integers(4)], int(rng.integers(3)), int(rng.integers(2))
        find(c, first, key, counts)
        for k, slot in enumerate(counts.slots):
            owner = int(key[k]), c, first
            assume(owners.setdefault((k, int(slot)), owner) == owner)
        node = 1
        for _ in range(LAST):
            bit = int(rng.random() < 0.2)
            for k in range(KINDS):
                where = (k, int(key[k]), c, first, node)
                p, seen = known.get(where, (0.5, 0))
                assert counts.seen[k, counts.slots[k], node] == min(seen, LIMIT)
                assert abs(counts.chances[k, counts.slots[k], node] / SCALE - p) < 60 / SCALE
                p = min(max(p + (bit - p) / (min(seen, LIMIT) + EARLY), LEAST), 1 - LEAST)
                known[where] = p, seen + 1
            count(node, bit, counts)
            node = 2 * node + bit


def test_a_place_that_another_takes_begins_anew():
    counts = counts_of(0)
    taken = set()
    for key in range(30_000):
        find(0, 3, np.full(KINDS, key), counts)
        taken.add(tuple(counts.slots))
        assert (counts.seen[0, counts.slots[0]] == 0).all()
        assert (counts.chances[0, counts.slots[0]] == SCALE // 2).all()
        count(1, 1, counts)
    slots = counts.owners.shape[1]
    assert 0.98 * slots < len(taken) <= slots


def test_tables_are_bounded():
    for values in (0, 1, 1 << 14, 1 << 40):
        slots = counts_of(values).chances.shape
        assert slots[0] == KINDS
        assert slots[2] == NODES
        assert slots[1] & (slots[1] - 1) == 0
        assert min(values // 2, MOST) <= slots[1] <= MOST
