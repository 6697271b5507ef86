from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codec.plan import MULTIPLIERS, UNIT, Plan, multiplier


def tables(min_size=1):
    step = st.integers(0, 2**UNIT // 3)
    return st.lists(step, min_size=min_size, max_size=40).map(lambda s: tuple(sum(s[:i]) for i in range(len(s) + 1)))


def make(dims, cumulative, min_bits):
    return Plan(dims, tuple(5.0 - i / 4 for i in range(len(cumulative))), cumulative, min_bits)


@given(st.integers(1, 5000), tables(), st.integers(0, 64))
def test_stops_go_from_end_to_end_and_no_step_is_short(dims, cumulative, min_bits):
    plan = make(dims, cumulative, min_bits)
    assert plan.stops[0] == 0
    assert plan.stops[-1] == len(cumulative) - 1
    assert list(plan.stops) == sorted(set(plan.stops))
    if plan.steps > 1:
        full = lambda k: plan._bits(cumulative[plan.stops[k + 1]], 128) - plan._bits(cumulative[plan.stops[k]], 128)  # noqa: E731
        assert all(full(k) >= min_bits for k in range(plan.steps))


@given(st.integers(1, 5000), tables(), st.integers(0, 64), st.integers(0, 255))
def test_totals_add_up(dims, cumulative, min_bits, code):
    plan = make(dims, cumulative, min_bits)
    totals = plan.totals(code)
    assert totals[0] == 0
    assert totals == [plan.total(k, code) for k in range(plan.steps + 1)]
    assert all(0 <= plan.bits(k, code) <= dims for k in range(plan.steps))


def test_multipliers_grow_evenly():
    values = [multiplier(c) for c in range(MULTIPLIERS)]
    assert values == sorted(set(values))
    assert values[128] == 512
    assert max(b / a for a, b in pairwise(values)) <= 33 / 32
    with pytest.raises(ValueError, match="one byte"):
        multiplier(256)
