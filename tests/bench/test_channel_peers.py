"""The peers of the trellis in bench/channels: both sides agree, and statistics are those of the closed forms."""

import json
import math
from itertools import product

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from scipy import stats
from scipy.special import ndtr

from bench import channel
from bench.channels.best_of_n import BestOfN
from bench.channels.cases import Case, directions, walk
from bench.channels.compare import at_equal_bits, in_equal_time
from bench.channels.dithered import WIDTH, Dithered, bits
from bench.channels.gaussian import ARRIVALS, constant, join, linear_and_square, random, split
from bench.channels.measure import limit, measure, settings
from bench.channels.pfr import BLOCK, PFR, Later, zipf_bits
from bench.channels.trellis import TrellisScheme, sample
from codec.channel.message import decode
from codec.channel.trellis import Trellis
from tests.conftest import smooth_picture

KINDS = {"equal": 0.0, "wider": 0.4}


def case(dims, kl, wider=0.0, seed=0):
    """A random delta of so many bits at r = 0, and r about ``wider``."""
    rng = np.random.default_rng(seed)
    delta = rng.standard_normal(dims).astype(np.float32)
    delta *= math.sqrt(2 * math.log(2) * kl) / np.linalg.norm(delta)
    return Case(delta, (wider * rng.uniform(0.5, 1.5, dims)).astype(np.float32), float(delta @ delta) / dims)


def log_ratio(case, zeta):
    """ln q/p of zeta (..., D), from the two densities."""
    q = stats.norm(case.delta / np.sqrt(1 + case.r), 1 / np.sqrt(1 + case.r))
    return (q.logpdf(zeta) - stats.norm.logpdf(zeta)).sum(-1)


@pytest.mark.parametrize("wider", KINDS.values(), ids=KINDS)
def test_coefficients_are_those_of_the_densities(wider):
    c, zeta = case(7, 3, wider), np.random.default_rng(1).standard_normal(7)
    a, b = linear_and_square(c.delta, c.r)
    assert a @ zeta + b @ zeta**2 + constant(c.delta, c.r) == pytest.approx(log_ratio(c, zeta), abs=1e-5)


@pytest.mark.parametrize("n", [1, 3, 10])
def test_join_is_the_inverse_of_split(n):
    r = np.random.default_rng(0).random(10).astype(np.float32)
    values = np.arange(10, dtype=np.float32)
    chunks = split(values, r, n)
    assert len(chunks) == n
    assert np.array_equal(join(chunks, r), values)


def test_the_limit_of_a_best_path():
    assert limit(3072, 512) == pytest.approx(3072 * (2 ** (1 / 3) - 1) / (2 * math.log(2) * 512))
    assert limit(10**9, 1) == pytest.approx(1, abs=1e-6)
    sine = 2 ** (-512 / 3072)
    along = math.sqrt(3072 * (1 - sine**2)) / sine  # with variance 1 across
    assert limit(3072, 512) == pytest.approx(along**2 / (2 * math.log(2) * 512))


def test_the_limit_stands_beside_what_is_reached():
    c = [case(60, kl) for kl in (6, 12)]
    rows = [measure(s, [k] * 2) for k in c for s in settings([6], [5], [2]) if s.scheme == "trellis"]
    [diagram], tables = channel.present({"rows": rows})
    last = next(t for t in tables if t.name == "efficiency").rows[-2:]
    assert last[0] == ["limit of samples", "1", "1"]
    assert last[1] == ["limit of a best path", f"{limit(60, 6):.3f}", f"{limit(60, 12):.3f}"]
    assert [s.y for s in diagram.series if s.name == "limit of a best path"] == [[limit(60, 6), limit(60, 12)]]
    chain = channel.present({"rows": [r | {"step": 0} for r in rows]})
    assert not any("limit" in row[0] for t in chain[1] for row in t.rows)


@pytest.mark.parametrize("wider", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("setting", settings([6], [5], [2]), ids=lambda s: s.scheme)
def test_two_sides_that_share_a_seed_agree(setting, wider):
    """The decoder is another object, made of what both know; rows of measure go into JSON."""
    c = case(50, 12, wider)
    message = setting.make(c, 5).encode(c.delta)
    first, second = (setting.make(c, 5).decode(message) for _ in range(2))
    assert first.shape == (50,)
    assert np.array_equal(first, second)
    assert c.delta @ first > 0
    row = json.loads(json.dumps(measure(setting, [c] * 3)))
    assert row["bits"] >= 1
    assert row["bits_over_kl"] == pytest.approx(row["bits"] / c.kl)


@pytest.mark.parametrize("wider", KINDS.values(), ids=KINDS)
def test_best_of_n_is_the_best_of_what_can_be_decoded(wider):
    c = case(9, 6, wider)
    scheme = BestOfN(c.r, 7, 4)
    assert scheme.sizes == [3, 4]
    every = [np.array(k) for k in product(range(8), range(16))]
    best = max(every, key=lambda k: log_ratio(c, scheme.decode(k)))
    assert np.array_equal(scheme.encode(c.delta), best)
    assert scheme.length(best) == 7


def test_best_of_n_reaches_as_far_as_the_largest_of_n_gaussians():
    """E max of N, from its density; so efficiency rises with bits."""
    reached = []
    z = np.linspace(-8, 8, 4001)
    for n in (4, 8, 11):
        cases = [case(48, n, seed=s) for s in range(200)]
        along = [c.delta @ (s := BestOfN(c.r, n)).decode(s.encode(c.delta)) / np.linalg.norm(c.delta) for c in cases]
        density = 2**n * ndtr(z) ** (2**n - 1) * stats.norm.pdf(z)
        assert np.mean(along) == pytest.approx((z * density).sum() * (z[1] - z[0]), abs=0.12)
        reached.append(np.mean(along) ** 2 / (2 * math.log(2) * n))
    assert reached == sorted(reached)


def test_minimal_random_coding_draws_in_proportion_to_q_over_p():
    c, draws = case(6, 1), 1500
    scheme = BestOfN(c.r, 3)
    weights = np.exp([log_ratio(c, scheme.decode(np.array([k]))) for k in range(8)])
    found = [int(BestOfN(c.r, 3, sampled=True, seed=s).encode(c.delta)[0]) for s in range(draws)]
    expected = draws * weights / weights.sum()
    assert stats.chisquare(np.bincount(found, minlength=8), expected).pvalue > 1e-3


def test_chunks_of_best_of_n_have_their_limit():
    with pytest.raises(ValueError, match="1 to 16"):
        BestOfN(np.zeros(4), 20, 17)


@pytest.mark.parametrize("wider", KINDS.values(), ids=KINDS)
def test_pfr_finds_the_first_arrival_over_w(wider):
    """Among all that a block holds, by the decoder alone."""
    c = case(4, 1, wider)
    for seed in range(3):
        scheme = PFR(c.r, 1, 1, seed)
        times = random(ARRIVALS, seed, 0).standard_exponential(BLOCK).cumsum()
        zetas = np.stack([scheme.decode(np.array([k])) for k in range(1, 1 + BLOCK)])
        ratios = times / np.exp(log_ratio(c, zetas))
        assert scheme.encode(c.delta).tolist() == [1 + ratios.argmin()]


@pytest.mark.parametrize("wider", KINDS.values(), ids=KINDS)
def test_samples_of_pfr_are_those_of_q(wider):
    c = case(4, 2, wider)
    zetas = np.stack([(s := PFR(c.r, 2, 1, seed)).decode(s.encode(c.delta)) for seed in range(400)])
    standard = np.sqrt(1 + c.r) * zetas - c.delta  # N(0, 1) under q, in every direction
    u = c.delta / np.linalg.norm(c.delta)
    assert stats.kstest(standard @ u, "norm").pvalue > 1e-3
    assert stats.kstest(standard.ravel(), "norm").pvalue > 1e-3


def test_a_search_that_meets_its_limit_says_so():
    c = case(4, 8)
    indices, given_up = PFR(c.r, 8, 8, limit=BLOCK).search(c.delta)
    assert indices[0] <= BLOCK
    assert given_up.all()


def test_later_winners_are_as_many_as_expected_or_fewer():
    c, S, T = case(1, 2), 0.8, 30.0
    rng = np.random.default_rng(0)
    w = np.exp([constant(c.delta, c.r)] + c.delta * rng.standard_normal(400_000))
    exact = S * np.maximum(w - T / S, 0).mean()
    assert Later(c.delta, c.r)(math.log(T), math.log(S)) == pytest.approx(exact, rel=0.2)
    bound = Later(c.delta, np.full(1, 1e-9))(math.log(T), math.log(S))
    assert exact < bound < 10 * exact


@pytest.mark.parametrize("kl", [1, 4, 12])
def test_zipf_lengths_fill_a_prefix_free_code(kl):
    k = np.arange(1, 1_000_001)
    power = 1 + 1 / (kl + math.log2(math.e) / math.e + 1)
    first, last = (float(zipf_bits(n, kl)) for n in (1, k[-1]))
    tail = 2.0**-last * (k[-1] / (power - 1) - 0.5)  # of the sum, by Euler and Maclaurin
    assert (2.0 ** -zipf_bits(k, kl)).sum() + tail == pytest.approx(1, abs=1e-6)
    assert (2.0 ** -np.ceil(zipf_bits(k, kl))).sum() <= 1
    assert last - first == pytest.approx(power * math.log2(k[-1]))


def test_dither_makes_the_error_uniform_whatever_delta():
    rng = np.random.default_rng(0)
    delta = 0.3 * rng.standard_normal(5000)
    scheme = Dithered(np.zeros(5000), 0.09)
    error = scheme.decode(scheme.encode(delta)) - delta
    assert stats.kstest(error, stats.uniform(-WIDTH / 2, WIDTH).cdf).pvalue > 1e-3
    assert abs(np.corrcoef(error, delta)[0, 1]) < 0.05
    assert error.var() == pytest.approx(1, rel=0.05)


def expected_bits(v: float) -> float:
    """I(delta; delta + w U) = h(y) - log2 w in bits per dimension, delta ~ N(0, v); by a Riemann sum."""
    std = math.sqrt(v)
    y, step = np.linspace(-WIDTH - 9 * std, WIDTH + 9 * std, 40001, retstep=True)
    density = (ndtr((y + WIDTH / 2) / std) - ndtr((y - WIDTH / 2) / std)) / WIDTH
    return float((density * bits(y, v)).sum() * step)


@pytest.mark.parametrize("v", [0.01, 0.3, 20])
def test_dithered_bits_are_the_mutual_information(v):
    rng, n = np.random.default_rng(0), 40_000
    scheme = Dithered(np.zeros(n), v)
    k = scheme.encode(math.sqrt(v) * rng.standard_normal(n))
    assert scheme.length(k) / n == pytest.approx(expected_bits(v), rel=0.05)
    assert expected_bits(v) > math.log2(1 + v) / 2  # the Gaussian channel's


def test_dithered_loses_a_quarter_of_a_bit_at_high_rates():
    assert expected_bits(1e4) - math.log2(1 + 1e4) / 2 == pytest.approx(
        math.log2(2 * math.pi * math.e / 12) / 2, abs=3e-3
    )


def test_probabilities_of_dithered_integers_sum_to_one_and_reach_far():
    for u in (-0.5, 0.0, 0.3):
        assert (2.0 ** -bits(WIDTH * (np.arange(-20, 21) + u), 2.0)).sum() == pytest.approx(1)
    assert np.isfinite(bits(np.array([-500.0, 500.0]), 1.0)).all()


def test_drawn_paths_of_a_trellis_have_the_weights_of_q_over_p():
    """Among the paths that begin in one register: which one it is, is drawn approximately."""
    c, code, draws = case(8, 2, 0.3), Trellis(8, 4), 1000
    a, b = (torch.from_numpy(v) for v in linear_and_square(c.delta, c.r))
    zeros, found = torch.zeros(8), {}
    for seed in range(draws):
        message = tuple(sample(code, a, b, seed).tolist())
        found[message] = found.get(message, 0) + 1
    for seam in product([0, 1], repeat=code.memory):
        paths = [seam + rest for rest in product([0, 1], repeat=code.bits - code.memory)]
        counts = np.array([found.get(p, 0) for p in paths])
        weights = np.exp([log_ratio(c, decode(code, np.array(p, np.uint8), zeros).numpy()) for p in paths])
        assert stats.chisquare(counts, counts.sum() * weights / weights.sum()).pvalue > 1e-3


def test_drawn_paths_vary_more_than_the_best():
    cases = directions(200, 30, 60)
    best, drawn = (measure(s, cases) for s in settings([8], [8], [2])[0:3:2])
    assert drawn["std_along"] > 2 * best["std_along"]
    assert drawn["mean_along_over_target"] < best["mean_along_over_target"]


def test_the_trellis_scheme_is_the_codecs():
    c = case(60, 20)
    scheme = TrellisScheme(c.r, 20)
    assert scheme.length(scheme.encode(c.delta)) == 20


def rows_of(scheme, setting, points):
    keys = ("kl", "bits", "efficiency", "encode_seconds")
    return [{"scheme": scheme, "parameters": setting} | dict(zip(keys, p)) for p in points]


def test_comparisons_interpolate_and_respect_the_clock():
    rows = [
        *rows_of("trellis", {"memory": 14}, [(32, 32, 0.9, 0.1), (64, 64, 0.9, 0.2)]),
        *rows_of("pfr", {"chunk": 2}, [(16, 32, 0.4, 0.05), (32, 64, 0.45, 0.05), (64, 128, 0.5, 0.1)]),
        *rows_of("pfr", {"chunk": 4}, [(32, 50, 0.6, 0.5), (64, 100, 0.6, 0.15)]),
    ]
    equal = at_equal_bits(rows, "pfr")
    assert [(p["bits"], p["other"]["chunk"]) for p in equal] == [(32, 2), (64, 2), (64, 4)]
    assert equal[1]["other_efficiency"] == pytest.approx(0.45)
    assert equal[1]["saved"] == pytest.approx(0.5)
    timed = in_equal_time(rows, "pfr")
    assert [(p["kl"], p["other"]["chunk"]) for p in timed] == [(32, 2), (64, 4)]
    assert [p["times"] for p in timed] == pytest.approx([0.5, 0.75])


def test_walk_takes_the_channels_of_a_chain(codec):
    cases = walk(codec, smooth_picture(16, 16))
    assert len(cases) == codec.plan(16, 16, False).steps
    mixed = cases[1].scrambled(3, 1)
    assert mixed.kl == pytest.approx(cases[1].kl, rel=1e-5)
    assert not np.array_equal(mixed.r, cases[1].r)
    assert sorted(mixed.r) == sorted(cases[1].r)


def test_the_bench_shows_what_it_writes(tmp_path):
    run = ["--dims", "60", "--bits", "8,16", "--memory", "4", "--chunk", "4", "--pfr-chunk", "1", "--draws", "2"]
    done = CliRunner().invoke(channel.main, [*run, "-o", str(tmp_path / "rows.json")], catch_exceptions=False)
    rows = json.loads((tmp_path / "rows.json").read_text())["rows"]
    assert len(rows) == 2 * len(channel.SCHEMES)
    assert {r["scheme"] for r in rows} == set(channel.SCHEMES)
    assert "trellis memory 4" in done.output
    assert "fewer bits for the same" in done.output
    total = channel.over_steps(rows)
    assert len(total) == len(channel.SCHEMES)
    assert total[0]["bits"] == pytest.approx(24)
