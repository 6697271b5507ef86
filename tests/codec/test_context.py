"""What known pixels say of others: the same to both sides, what the formula says, and worth what it should be."""

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from codec import Codec, Target
from codec.calibration.context import context_of
from codec.lossless import context
from codec.lossless import pixels as lossless
from codec.lossless.context import MOST, UNIT, WEIGHT, Sight, deviations
from codec.lossless.entropy import FRACTIONS, HIGHEST, LOWEST, OCTAVE
from codec.lossless.likelihood import distortion, pixel_nats
from codec.lossy.tables import Context
from codec.terms import CodeTerms
from ddpm.diffusion.likelihood import to_unit

SHAPES = st.tuples(st.integers(1, 3), st.sampled_from([1, 3]), st.integers(1, 9), st.integers(1, 9))


def beliefs(shape, rng, wild=0.0):
    means, scales = rng.integers(0, 255 * FRACTIONS + 1, shape), rng.integers(LOWEST, HIGHEST + 1, shape)
    near = np.rint(means / FRACTIONS + 2.0 ** (scales / OCTAVE) * rng.standard_normal(shape)).clip(0, 255)
    return np.where(rng.random(shape) < wild, rng.integers(0, 256, shape), near).astype(np.uint8), means, scales


def random_context(colours: int, rng) -> Context:
    edges = np.array([-12, -3, 4])
    groups = {}
    for colour in rng.permutation(colours).tolist():
        for odd in (0, 1):
            places = [(c, i, j) for c in range(colours) for i in (-1, 0, 1) for j in (-1, 0, 1)]
            weights = {p: rng.integers(-1500, 1500, 4) for p in places if p != (colour, 0, 0)}
            groups[colour, odd] = weights, rng.integers(-9, 4, 4)
    return Context(edges, groups)


@settings(deadline=None, max_examples=60)
@given(SHAPES, st.integers(0, 2**32 - 1), st.floats(0, 1))
def test_both_sides_see_the_same(shape, seed, wild):
    rng = np.random.default_rng(seed)
    (x, means, scales), known = beliefs(shape, rng, wild), random_context(shape[1], rng)
    ahead = Sight(known, means, scales, shape).predictions(x)
    sight = Sight(known, means, scales, shape)
    for group, (values, *expected) in zip(sight.groups, ahead, strict=True):
        for seen, told in zip(sight.predict(group), expected, strict=True):
            assert np.array_equal(seen, told)
        sight.update(group, values.ravel())
    assert np.array_equal(sight.x, x)
    assert sum(values.size for values, *_ in ahead) == x.size
    for _, m, s in ahead:
        assert 0 <= m.min() <= m.max() <= 255 * FRACTIONS
        assert LOWEST <= s.min() <= s.max() <= HIGHEST


def test_strips_are_the_same(monkeypatch):
    rng = np.random.default_rng(1)
    shape = (2, 3, 23, 10)
    (x, means, scales), known = beliefs(shape, rng), random_context(3, rng)
    whole = Sight(known, means, scales, shape).predictions(x)
    monkeypatch.setattr(context, "CHUNK", 30)
    for a, b in zip(whole, Sight(known, means, scales, shape).predictions(x), strict=True):
        assert all(map(np.array_equal, a, b))


def test_means_move_as_the_formula_says():
    """Pixel by pixel, in floating point."""
    rng = np.random.default_rng(2)
    shape = (1, 3, 6, 7)
    (x, means, scales), known = beliefs(shape, rng), random_context(3, rng)
    seen = np.full(shape, np.nan)
    for (colour, odd), (_, moved, narrowed) in zip(known.groups, Sight(known, means, scales, shape).predictions(x)):
        places = [(i, j) for i in range(6) for j in range(7) if (i + j) % 2 == odd]
        weights, narrower = known.groups[colour, odd]
        for n, (i, j) in enumerate(places):
            std = math.sqrt(4 ** (scales[0, colour, i, j] / 8) + 1 / 12)
            k = sum(scales[0, colour, i, j] >= known.edges)
            total = 0.0
            for (c, below, right), w in weights.items():
                if 0 <= i + below < 6 and 0 <= j + right < 7 and not np.isnan(e := seen[0, c, i + below, j + right]):
                    total += w[k] / 2**WEIGHT * e
            expected = np.clip(means[0, colour, i, j] / 16 + std * total, 0, 255)
            assert moved[0, n] / 16 == pytest.approx(expected, abs=1 / 16 + 1e-3 * std)
            assert narrowed[0, n] == np.clip(scales[0, colour, i, j] + narrower[k], LOWEST, HIGHEST)
        for i, j in places:
            std = math.sqrt(4 ** (scales[0, colour, i, j] / 8) + 1 / 12)
            error = (x[0, colour, i, j] - means[0, colour, i, j] / 16) / std
            seen[0, colour, i, j] = np.clip(error, -MOST / 2**UNIT, MOST / 2**UNIT)


def test_deviations_are_far_from_rounding_either_way():
    std = np.sqrt(4.0 ** (np.arange(LOWEST, HIGHEST + 1) / OCTAVE) + 1 / 12)
    for table, exact in zip(deviations(), (std, 1 / std)):
        assert np.abs(table - exact * 2**context.FINE).max() < 0.5 - 1e-3


def test_fitted_it_saves_the_mutual_information():
    """Errors that share a part in all colours, correlated by rho: of three colours one saves nothing, the others
    -1/2 log2 (1 - rho^2) and what a Gaussian's conditional variance given two says."""
    rng, rho, std = np.random.default_rng(3), 0.7, 4.0
    shape = (40, 3, 24, 24)
    errors = math.sqrt(rho) * rng.standard_normal((40, 1, 24, 24)) + math.sqrt(1 - rho) * rng.standard_normal(shape)
    means = rng.integers(40 * FRACTIONS, 200 * FRACTIONS, shape)
    scales = np.full(shape, round(OCTAVE * math.log2(std)))
    x = np.rint(means / FRACTIONS + std * errors).astype(np.uint8)
    fitted = context_of([(x[:30], means[:30], scales[:30])])
    assert Context.from_json(json.loads(json.dumps(fitted.to_json()))).to_json() == fitted.to_json()
    rest = x[30:], means[30:], scales[30:]
    before = pixel_nats(*rest).mean()
    groups = Sight(fitted, *rest[1:], (10, *shape[1:])).predictions(rest[0])
    after = sum(pixel_nats(*group).sum() for group in groups) / rest[0].size
    given = [1, 1 - rho**2, 1 - 2 * rho**2 / (1 + rho)]
    assert before - after == pytest.approx(-np.log(given).mean() / 2, abs=0.01)


def test_grids_and_classes_cost_little(codec):
    """Without a context the sum over groups is the discretized Gaussian's, but for rounding."""
    plain, none = Context(np.array([0]), {(c, o): ({}, np.zeros(2, int)) for c in (1, 0, 2) for o in (0, 1)}), None
    x = torch.randint(60, 190, (2, 3, 12, 12), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    mean = to_unit(x) + 0.01 * torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
    spread = torch.full(x.shape, math.log(0.01))
    a, b = (distortion(c, to_unit(x), mean, spread) for c in (plain, none))
    torch.testing.assert_close(a.float(), b.float(), atol=0.02, rtol=0)


def test_files_are_as_long_as_the_bound_says(codec):
    """The lossless part of a model whose tables have a context, beside -log2 p(x | z_0) in that context."""
    from tests.conftest import smooth_picture

    picture = smooth_picture(32, 32)
    assert codec.tables.colour.context.groups
    [file] = codec.encode([picture], Target(lossless=True), store=False)
    begin, end = codec.open(file.data).parts["pixels"]
    terms = CodeTerms(codec.setting((32, 32)))
    x = to_unit(torch.from_numpy(picture).permute(2, 0, 1)[None])
    eps = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    ideal = float(terms.distortion(x, eps)[0]) * x.numel() / math.log(2) / 8
    assert end - begin - lossless.PREFIX == pytest.approx(ideal, rel=0.08)


@pytest.mark.parametrize("name", ["cifar10", "photo"])
def test_shipped_models_have_them(name):
    tables = Codec(name, "cpu").tables
    for grey, groups in ((False, 6), (True, 2)):
        known = tables.of(grey).context
        assert len(known.groups) == groups
        assert all(len(w) == len(known.edges) + 1 for weights, _ in known.groups.values() for w in weights.values())
