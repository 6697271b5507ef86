import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.fft import dctn

from codec.lossy.basis import GRID, Cosines
from codec.lossy.tables import CodingTables, Tables
from ddpm.diffusion.bands import RINGS, sizes_of
from ddpm.diffusion.gaussian import kl_nats

sizes = st.tuples(st.integers(1, 40), st.integers(1, 40))


def cosine_tables(block=8, seed=0):
    rng = np.random.default_rng(seed)
    bands = tuple(tuple((0.2 + rng.random(3 * RINGS)).tolist()) for _ in range(3))
    ones = ((1.0,) * 3 * RINGS,) * 3
    grey = Tables(bands=tuple(b[:RINGS] for b in bands), powers=tuple(p[:RINGS] for p in ones))
    return CodingTables((0.0,) * 3, 1.0, block, 1.0, 8, 0, colour=Tables(bands=bands, powers=ones), grey=grey)


@settings(deadline=None)
@given(sizes, st.booleans(), st.sampled_from([cosine_tables(4), cosine_tables(8)]))
def test_coordinates_are_orthonormal(size, grey, tables):
    basis = Cosines(tables, size, grey)
    x = torch.randn(2, 3, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    c = basis.coordinates(x)
    assert c.shape == (2, 1 if grey else 3, *size)
    kept = x.mean(1, keepdim=True).expand_as(x) if grey else x
    few = 8 * GRID  # each way values are rounded to the grid four times
    torch.testing.assert_close(basis.picture(c), kept, rtol=1e-5, atol=few)
    torch.testing.assert_close(basis.coordinates(basis.picture(c)), c, rtol=1e-5, atol=few)
    torch.testing.assert_close((c**2).sum((1, 2, 3)), (kept**2).sum((1, 2, 3)), rtol=1e-5, atol=1e-5)


def test_cosines_are_scipys():
    x = torch.randn(1, 3, 20, 13)
    [c] = Cosines(cosine_tables(), (20, 13), False).coordinates(x).numpy()
    for rows, columns in ((slice(0, 8), slice(0, 8)), (slice(16, 20), slice(8, 13))):
        expected = dctn(x[0, :, rows, columns].numpy(), norm="ortho")
        np.testing.assert_allclose(c[:, rows, columns], expected, atol=1e-5)


@pytest.mark.parametrize("grey", [False, True])
def test_extra_variance_is_that_of_the_error(grey):
    """Errors drawn with known variances in the basis: the KL per dim is 1/2 ln(1 + r)."""
    tables = cosine_tables()
    gain = Cosines(tables, (16, 24), grey).step(1.0, 0.3).gain
    assert gain[0] == pytest.approx(math.expm1(0.7))
    basis = Cosines(tables, (16, 24), grey)
    m = torch.rand(1, 1, 16, 24).expand(1, 3, 16, 24)
    [r] = basis.extra_variance(1, gain, m)
    bands = np.array(tables.of(grey).bands[1])[basis.band[: basis.colours].numpy()]
    local = m[0, 0].numpy().reshape(2, 8, 3, 8).mean((1, 3)).repeat(8, 0).repeat(8, 1)
    np.testing.assert_allclose(r.numpy(), gain[0] * local * bands, rtol=1e-5)
    delta = r.sqrt() * torch.randn(4000, *r.shape)
    assert float(kl_nats(delta**2, r).mean()) == pytest.approx(float(0.5 * torch.log1p(r).mean()), rel=0.01)


def test_a_band_is_a_ring_of_frequencies_of_one_colour():
    basis = Cosines(cosine_tables(), (16, 8), False)
    assert basis.band[:, 0, 0].tolist() == [0, RINGS, 2 * RINGS]
    assert basis.band[0, 8:, :].tolist() == basis.band[0, :8, :].tolist()
    assert basis.band[0, 3, 4] == 5
    assert basis.band[2, 7, 7] == 2 * RINGS + RINGS - 1


@settings(deadline=None)
@given(sizes, st.booleans(), st.sampled_from([0.0, 0.3, 0.8]))
def test_places_are_those_of_the_bands(size, grey, share):
    """What is taken from them and put back; weights spread over them are those of their bands; and there are as many
    as the plan counts without looking."""
    basis = Cosines(cosine_tables(), size, grey)
    rng = np.random.default_rng(0)
    present, weights = rng.random(3 * RINGS) >= share, rng.random(3 * RINGS)
    places = basis.places(present)
    z = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))
    band = basis.band.numpy()
    wanted = np.broadcast_to(present[band] & (np.arange(3) < basis.colours)[:, None, None], z.shape)
    n = wanted[0].sum()
    values = places.of(z[:, : basis.colours])
    assert np.array_equal(values.numpy(), z.numpy()[wanted].reshape(2, n))
    assert np.allclose(places.spread(weights, z).expand(n), weights[band][wanted[0]])
    assert np.allclose(basis.times(z.clone(), weights), z.numpy() * weights[band])
    before = z.clone()
    places.add(z, values)
    assert np.array_equal(z.numpy(), np.where(wanted, 2 * before.numpy(), before.numpy()))
    counts = sizes_of(basis.block, size, basis.colours)
    assert counts[present[: len(counts)]].sum() == n
    assert counts.sum() == basis.colours * size[0] * size[1]
