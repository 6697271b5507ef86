from dataclasses import replace
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from codec.plan import FACTORS, FREE, MEAN, TILTS, UNIT, Allotment, Plan, Profile, share


def tables(min_size=2):
    step = st.integers(0, 2**UNIT // 3)
    return st.lists(step, min_size=min_size, max_size=40).map(lambda s: tuple(sum(s[:i]) for i in range(len(s) + 1)))


def make(dims, cumulative, min_bits, keep_first=False):
    levels = tuple(5.0 - i / 4 for i in range(len(cumulative)))
    return Plan(dims, levels, (cumulative,) * TILTS, min_bits, keep_first=keep_first)


profiles = st.builds(Profile, st.integers(0, FACTORS - 1), st.integers(0, TILTS - 1))


@given(st.integers(1, 5000), tables(), st.integers(0, 64), st.booleans())
def test_stops_go_from_end_to_end_and_no_step_is_short(dims, cumulative, min_bits, keep_first):
    plan = make(dims, cumulative, min_bits, keep_first)
    assert plan.stops[0] == 0
    assert plan.stops[-1] == len(cumulative) - 1
    assert list(plan.stops) == sorted(set(plan.stops))
    assert not keep_first or plan.stops[1] == 1
    if plan.steps > 2:
        ends = [cumulative[i] * dims >> UNIT for i in plan.stops[keep_first:]]
        assert min(b - a for a, b in pairwise(ends)) >= min_bits


@given(st.integers(1, 5000), tables(), st.integers(0, 64), profiles)
def test_totals_add_up(dims, cumulative, min_bits, profile):
    plan = make(dims, cumulative, min_bits)
    totals = plan.totals(profile)
    assert totals[0] == 0
    assert totals == [Allotment(plan, profile, k).total for k in range(plan.steps + 1)]
    assert all(0 <= plan.bits(k, profile) <= dims for k in range(plan.steps))


def test_factors_grow_evenly_about_one():
    values = [Profile(c, 0).scale for c in range(FACTORS)]
    assert values == sorted(set(values))
    assert MEAN.scale == 256
    assert max(b / a for a, b in pairwise(values)) <= 17 / 16
    assert (values[0] / 256, values[-1] / 256) == (1 / 16, 15.5)


@given(tables(), profiles, st.integers(1, 100), st.data())
def test_long_steps_are_corrected_to_what_is_wanted(cumulative, profile, long, data):
    plan = replace(make(3000, cumulative, 0), long=long)
    k = data.draw(st.integers(0, plan.steps - 1))
    if not plan.is_long(k, profile):
        return
    base = plan.bits(k, profile)
    wanted = data.draw(st.floats(0.5, 1.49)) * base
    c = Allotment.correction(plan, profile, k, wanted)
    got = Allotment.corrected(plan, profile, k, c)
    assert 0 <= c <= 255
    assert got <= max(wanted, base >> 1)
    assert got >= min(wanted - base / 256 - 1, plan.dims)
    count = Allotment.count_long(plan, profile, plan.steps)
    corrections = bytearray(b"\x80" * count)
    corrections[Allotment.count_long(plan, profile, k)] = c
    sizes = Allotment(plan, profile, plan.steps, bytes(corrections)).sizes
    assert sizes[k] == got
    assert [n for i, n in enumerate(sizes) if i != k] == [plan.bits(i, profile) for i in range(plan.steps) if i != k]


def test_shares_rise_by_at_most_a_sixteenth():
    shares = [share(c) for c in range(256)]
    assert shares[:17] == list(range(17))
    assert all(a < b <= max(a + 1, a * 17 / 16) for a, b in pairwise(shares))
    assert 0.96 * 2**19 < shares[-1] < 2**19


@given(tables(), st.integers(1, 10**7), st.floats(0, 1), st.data())
def test_a_free_step_has_what_is_wanted_whatever_the_tables_say(cumulative, dims, wanted, data):
    plan = replace(make(dims, cumulative, 0), free=True)
    k = data.draw(st.integers(0, plan.steps - 1))
    assert plan.is_long(k, FREE)
    c = Allotment.correction(plan, FREE, k, wanted * dims)
    got = Allotment.corrected(plan, FREE, k, c)
    assert got <= wanted * dims
    assert got + 1 >= min(wanted, 0.96) * dims * 16 / 17 - dims / 2**19
    codes = bytes([c] * plan.steps)
    assert Allotment(plan, FREE, plan.steps, codes).sizes == (got,) * plan.steps
    assert Allotment.count_long(plan, FREE, plan.steps) == plan.steps
