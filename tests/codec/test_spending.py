import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from codec.lossy.plan import FREE, MEAN, TILTS, UNIT, Allotment, Plan, Profile
from codec.lossy.ratecontrol import Controlled, Fixed, Oracle, better_free, side_bits, spending_for

COSTS = np.array([900, 1100, 1400, 1700, 2100, 2600, 3200, 3900, 4700, 5600], float)
DIMS = 200_000


def plan(long=512):
    table = (0, *(int(c * 2**UNIT / DIMS) for c in np.cumsum(COSTS)))
    levels = (math.inf, *(5.0 - i for i in range(len(COSTS))))
    return Plan(DIMS, levels, (table,) * TILTS, 30, tuple(COSTS / DIMS), long=long)


def spend(spending, kl):
    sizes = []
    while len(sizes) < spending.steps:
        sizes.append(spending.bits(len(sizes), kl[len(sizes)]))
    return sizes


@settings(deadline=None)
@given(st.floats(6000, 20000), st.floats(0.75, 1.3), st.integers(0, 1000))
@example(6000.0, 0.75, 151)  # the step after the first that would do costs more than is left
def test_a_budget_is_used_up_and_never_passed(budget, factor, seed):
    """Though the picture costs more or less than the probe says, and steps differ at random."""
    p = plan()
    kl = COSTS * factor * np.exp(0.1 * np.random.default_rng(seed).standard_normal(len(COSTS)))
    by = spending_for(p, np.concatenate([[0], np.cumsum(COSTS)]), budget, 1.0)
    assert isinstance(by, Controlled)
    sizes = spend(by, kl)
    allotment = Allotment(p, by.profile, len(sizes), by.corrections)
    assert list(allotment.sizes) == sizes
    assert 0.97 * budget <= sum(sizes) + 8 * (len(by.corrections) + 1) <= budget


def test_without_a_budget_each_step_gets_what_it_asks_for():
    p, kl = plan(), COSTS * np.linspace(0.8, 1.2, len(COSTS))
    by = spending_for(p, np.concatenate([[0], np.cumsum(COSTS)]), math.inf, 1.0, steps=7)
    sizes = spend(by, kl)
    assert len(sizes) == 7
    assert by.profile == FREE
    np.testing.assert_allclose(sizes, kl[:7], rtol=1 / 16)  # what neighbouring shares differ by, at most


def test_short_steps_get_what_the_tables_say():
    p = plan(long=1 << 62)
    by = spending_for(p, 0.1 * np.concatenate([[0], np.cumsum(COSTS)]), 900, 1.0)
    assert isinstance(by, Fixed)
    sizes = spend(by, COSTS * 0.2)
    assert sizes == [p.bits(k, by.profile) for k in range(by.steps)]
    assert 0.97 * 900 <= sum(sizes) <= 900


def test_the_oracle_gives_each_step_its_kl():
    assert spend(Oracle(plan(), 1.1), COSTS) == pytest.approx(COSTS * 1.1, abs=1)
    assert Fixed(plan(), MEAN, 3).bits(0, 1e9) == plan().bits(0, MEAN)


@settings(deadline=None)
@given(st.floats(1500, 30000))
def test_a_picture_unlike_all_others_is_free_of_the_tables(budget):
    """Nearly all of its cost is in the first two steps, which no table has."""
    p = plan()
    kl = np.array([1000, 100, *[10] * 8], float)
    cost = np.concatenate([[0], np.cumsum(kl)])
    by = spending_for(p, cost, budget, 1.0)
    assert by.profile == FREE
    sizes = spend(by, kl)
    allotment = Allotment(p, by.profile, len(sizes), by.corrections)
    assert list(allotment.sizes) == sizes
    assert 0.9 * budget <= sum(sizes) + 8 * (len(by.corrections) + 1) <= budget
    assert sizes[0] > 0.8 * budget * kl[0] / kl.sum()


def test_usual_pictures_keep_to_the_tables_while_those_save_bytes():
    """A step that is not long costs a byte more in a free file, a long one as much as its correction."""
    p, cost = plan(), np.concatenate([[0], np.cumsum(COSTS)])
    for factor, free in ((0.1, False), (0.3, False), (1, True), (3, True)):
        for budget in (3000, 10_000, math.inf):
            by = spending_for(p, factor * cost, budget, 1.0)
            assert (by.profile == FREE) == free
    table = Profile(MEAN.factor + 16, MEAN.tilt)  # where all steps are long
    assert side_bits(p, table, 5) == side_bits(p, FREE, 5)
    assert spending_for(p, cost, math.inf, 1.0, free=True).profile == FREE
    assert better_free(p, MEAN, 3, cost**3)
    assert not better_free(p, Profile(11, MEAN.tilt), 3, 0.1 * cost)
