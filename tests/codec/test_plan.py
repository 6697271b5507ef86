import math
from dataclasses import replace
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from codec.lossy.plan import (
    FACTORS,
    FREE,
    LONG,
    MAX_STEPS,
    MEAN,
    START_BITS,
    STRIDES,
    TILTS,
    UNIT,
    Allotment,
    Plan,
    Profile,
    share,
)
from codec.lossy.tables import CodingTables, Tables


def tables(min_size=2):
    step = st.integers(0, 2**UNIT // 3)
    return st.lists(step, min_size=min_size, max_size=40).map(lambda s: tuple(sum(s[:i]) for i in range(len(s) + 1)))


def make(dims, cumulative, min_bits):
    levels = tuple(5.0 - i / 4 for i in range(len(cumulative)))
    return Plan(dims, levels, (cumulative,) * TILTS, min_bits)


NEVER = 1 << 62  # bits; so no step is long


profiles = st.builds(Profile, st.integers(0, FACTORS - 1), st.integers(0, TILTS - 1)).filter(lambda p: p != FREE)


@given(st.integers(1, 5000), tables(), st.integers(0, 64))
def test_stops_go_from_end_to_end_and_no_step_is_short(dims, cumulative, min_bits):
    plan = make(dims, cumulative, min_bits)
    assert plan.stops[0] == 0
    assert plan.stops[-1] == len(cumulative) - 1
    assert list(plan.stops) == sorted(set(plan.stops))
    if plan.steps > 2:
        ends = [cumulative[i] * dims >> UNIT for i in plan.stops]
        assert min(b - a for a, b in pairwise(ends)) >= min_bits


@given(st.integers(1, 5000), tables(), st.integers(0, 64), st.integers(2, STRIDES), st.integers(1, 40))
def test_a_stride_thins_out_the_levels_that_take_time(dims, cumulative, min_bits, stride, whole):
    every = make(dims, cumulative, min_bits)
    stops = replace(every, stride=stride, whole=whole).stops
    coarse = [i for i in every.stops if i < whole]
    fine = [i for i in every.stops if i >= whole]
    assert list(stops[: len(coarse)]) == coarse
    assert len(stops) == len(coarse) + -(-len(fine) // stride)
    assert stops[-1] == every.stops[-1]
    places = [every.stops.index(i) for i in stops[len(coarse) :]]
    assert {b - a for a, b in pairwise(places)} <= {stride}


@given(st.integers(1, 5000), tables(), st.integers(0, 64), profiles)
def test_totals_add_up(dims, cumulative, min_bits, profile):
    plan = replace(make(dims, cumulative, min_bits), long=NEVER)
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
    plan = make(dims, cumulative, 0)
    k = data.draw(st.integers(0, plan.steps - 1))
    assert plan.is_long(k, FREE)
    c = Allotment.correction(plan, FREE, k, wanted * dims)
    got = Allotment.corrected(plan, FREE, k, c)
    assert got <= wanted * dims
    assert got + 1 >= min(wanted, 0.96) * dims * 16 / 17 - dims / 2**19
    codes = bytes([c] * plan.steps)
    assert Allotment(plan, FREE, plan.steps, codes).sizes == (got,) * plan.steps
    assert Allotment.count_long(plan, FREE, plan.steps) == plan.steps


def test_what_a_header_has_room_for():
    """A factor in 7 bits, a tilt in 3, steps in 6: two bytes."""
    assert (FACTORS, TILTS, MAX_STEPS) == (2**7, 2**3, 2**6 - 1)


def test_tables_count_2_to_the_24th_of_a_bit_per_dimension():
    plan = make(1000, (0, 1 << 22, 1 << 23, 1 << 25), 0)
    assert [plan.bits(k, MEAN) for k in range(3)] == [250 + START_BITS, 250, 1000]  # at most one for each
    assert [plan.bits(k, Profile(MEAN.factor - 16, 0)) for k in range(2)] == [125 + START_BITS, 125]
    assert START_BITS == 6


def test_corrections_go_from_a_half_to_nearly_three_halves():
    plan = replace(make(1000, (0, 1 << 22, 1 << 23), 0), long=1)
    for k, base in enumerate((256, 250)):
        assert Allotment.correction(plan, MEAN, k, 0) == 0
        assert Allotment.correction(plan, MEAN, k, math.inf) == 255
        ends = [Allotment.corrected(plan, MEAN, k, c) for c in (0, 128, 255)]
        assert ends == [base // 2, base, base * 383 // 256]
    assert Allotment.count_long(plan, MEAN, 2) == 2
    assert Allotment.count_long(replace(plan, long=251), MEAN, 2) == 1
    assert Allotment.count_long(replace(plan, long=NEVER), MEAN, 2) == 0


def test_the_plan_of_a_models_tables():
    """Grey pictures have their own; levels are skipped for the sake of messages; ideal bits are of the same steps."""
    colour, grey = (
        Tables(((0, a, 2 * a, 40 * a),) * TILTS, reference)
        for a, reference in ((1 << 20, (0.25, 0.5, 1.0)), (1 << 21, (1, 2, 4)))
    )
    coding = CodingTables((0.0,) * 3, 1.0, 2, 1.0, 8, 12, (3.0, 2.0, 1.0), (1,) * 4, colour, grey)
    assert (coding.plan((10, 10), True).dims, coding.plan((10, 10), False).dims) == (100, 300)
    plan = coding.plan((6, 6), False)  # 108 dims
    assert (plan.stops, plan.gammas) == ((0, 2, 3), (math.inf, 2.0, 1.0))
    assert coding.plan((10, 10), True).stops == (0, 1, 2, 3)
    every = coding.plan((10, 10), False, every_level=True)
    assert every.stops == (0, 1, 2, 3)
    assert every.ideal() == [75, 150, 300]
    assert coding.plan((10, 10), True, every_level=True).ideal() == [100, 200, 400]
    assert plan.long == LONG == 512
