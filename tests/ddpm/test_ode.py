import math

import numpy as np
import pytest
import torch
from scipy import stats

from ddpm.diffusion.likelihood import HALF_LEVEL, LN2
from ddpm.diffusion.ode import OdeLikelihood, density, ode_likelihood
from ddpm.diffusion.schedule import LinearGamma
from ddpm.models.model import DDPM
from ddpm.training.presets import PRESETS


class GaussianData:
    """The best model of x ~ N(mu, Sigma), x (D,): eps_hat = sigma (alpha^2 Sigma + sigma^2 I)^-1 (z - alpha mu)."""

    device = torch.device("cpu")

    def __init__(self, mu, covariance, gamma_max=12.0):
        self.schedule = LinearGamma(gamma_max, -9.2)
        self.mu, self.covariance = torch.as_tensor(mu), torch.as_tensor(covariance)

    def __call__(self, z, gamma):
        alpha2, sigma2 = torch.sigmoid(-gamma[0].double()), torch.sigmoid(gamma[0].double())
        precision = torch.linalg.inv(alpha2 * self.covariance + sigma2 * torch.eye(len(self.mu)))
        eps_hat = sigma2.sqrt() * (z.flatten(1).double() - alpha2.sqrt() * self.mu) @ precision
        return eps_hat.view(z.shape).to(z.dtype), torch.zeros_like(z)

    def at_gamma_min(self):
        """The distribution of y = z / alpha at gamma_min: N(mu, Sigma + s^2 I)."""
        s2 = math.exp(self.schedule.gamma_min)
        return stats.multivariate_normal(self.mu.numpy(), self.covariance.numpy() + s2 * np.eye(len(self.mu)))


def gaussian_data(full=True, dims=12, **options):
    """Variances from 0.001 to 0.25 along the axes, or, if ``full``, along directions of no particular kind."""
    rng = np.random.default_rng(0)
    axes = np.linalg.qr(rng.standard_normal((dims, dims)))[0] if full else np.eye(dims)
    return GaussianData(rng.uniform(-0.3, 0.3, dims), axes * np.geomspace(1e-3, 0.25, dims) @ axes.T, **options)


def rademacher(shape, seed=0):
    return torch.from_numpy(2.0 * np.random.default_rng(seed).integers(0, 2, shape) - 1)


def levels(n, shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).integers(60, 200, (n, *shape)).astype(np.uint8))


@pytest.fixture(scope="module")
def smooth():
    """A small network without Fourier features, on which the solver takes long steps."""
    config = PRESETS["tiny"]["model"]
    torch.manual_seed(0)
    network = DDPM({**config, "network": {**config["network"], "fourier": []}}).eval().requires_grad_(False)
    for p in network.parameters():
        if not p.any():
            torch.nn.init.normal_(p, std=0.02)
    return network


@pytest.mark.parametrize("full", [False, True])
def test_density_of_gaussian_data(full):
    """Up to what N(0, I) leaves out at gamma_max: alpha mu, of order 1e-4 there."""
    model = gaussian_data(full, gamma_max=18.0)
    v = model.at_gamma_min().rvs(5, random_state=1)
    log_p, evaluations = density(model, torch.from_numpy(v).view(5, 3, 2, 2), rtol=1e-6, atol=1e-6)
    assert log_p == pytest.approx(model.at_gamma_min().logpdf(v), rel=1e-4, abs=1e-3)
    assert evaluations < 200


def test_the_error_follows_the_tolerance():
    model = gaussian_data()
    v = torch.from_numpy(model.at_gamma_min().rvs(3, random_state=1)).view(3, 3, 2, 2)
    best = density(model, v, rtol=1e-9, atol=1e-9)[0]
    errors = [np.abs(density(model, v, rtol=t, atol=t)[0] - best).max() / 12 for t in (1e-3, 1e-5, 1e-7)]
    assert errors[0] < 2e-2
    assert errors[1] < 3e-4
    assert errors[2] < 3e-6


def test_a_rademacher_vector_is_exact_where_the_jacobian_is_diagonal():
    model = gaussian_data(full=False)
    v = torch.from_numpy(model.at_gamma_min().rvs(4, random_state=1)).view(4, 3, 2, 2)
    assert density(model, v, rademacher(v.shape))[0] == pytest.approx(density(model, v)[0], rel=1e-6)


def test_hutchinson_is_unbiased():
    model = gaussian_data()
    v = torch.from_numpy(model.at_gamma_min().rvs(1, random_state=1)).view(1, 3, 2, 2)
    many = density(model, v.expand(1000, -1, -1, -1), rademacher((1000, 3, 2, 2)))[0]
    stderr = many.std() / math.sqrt(len(many))
    assert stderr < 0.2
    assert many.mean() == pytest.approx(density(model, v)[0][0], abs=4 * stderr)


def test_the_bound_of_a_gaussian():
    """On levels drawn from broad Gaussian data the bin's mass is its density, so bits/dim are known."""
    model = GaussianData(np.zeros(12), 0.25 * np.eye(12), gamma_max=18.0)
    images = levels(16, (3, 2, 2))
    result = ode_likelihood(model, images.split(8), trace="exact", quiet=True)
    x = images.flatten(1).numpy() / 127.5 - 1
    expected = -(model.at_gamma_min().logpdf(x) / 12 + math.log(2 * HALF_LEVEL)) / LN2
    assert result.per_image == pytest.approx(expected, abs=0.01)
    assert result.bits_per_dim == pytest.approx(result.per_image.mean())
    assert result.stderr == pytest.approx(stats.sem(result.per_image))
    assert ode_likelihood(model, [images[:1]], trace="exact", quiet=True).stderr is None


def test_importance_weighting_tightens_the_bound():
    """With data of a width like the bin's, ln p varies over a bin and the gap that k closes is large."""
    model = GaussianData(np.zeros(4), 0.002**2 * np.eye(4))
    model.schedule = LinearGamma(12.0, -13.0)
    images = torch.full((60, 1, 2, 2), 127, dtype=torch.uint8)
    one, eight = (
        ode_likelihood(model, [images], samples=k, trace="exact", rtol=1e-4, atol=1e-4, quiet=True) for k in (1, 8)
    )
    std = math.sqrt(0.002**2 + math.exp(-13))
    mass = stats.norm.cdf(0, 0, std) - stats.norm.cdf(-2 * HALF_LEVEL, 0, std)  # level 127 is the bin below 0
    assert one.bits_per_dim > eight.bits_per_dim + 3 * eight.stderr
    assert eight.bits_per_dim > -math.log2(mass) - 3 * eight.stderr


def test_hutchinson_noise_is_not_taken_for_likelihood():
    """More samples average the estimate of the bound at k = 1; they do not move it."""
    model = GaussianData(np.zeros(12), gaussian_data().covariance)
    images = levels(1, (3, 2, 2)).expand(200, -1, -1, -1)
    one, five = (ode_likelihood(model, [images], samples=k, rtol=1e-4, atol=1e-4, quiet=True) for k in (1, 5))
    exact = ode_likelihood(model, [images], trace="exact", rtol=1e-4, atol=1e-4, quiet=True)
    assert five.stderr < 0.6 * one.stderr
    for result in (one, five):
        assert result.bits_per_dim == pytest.approx(exact.bits_per_dim, abs=4 * result.stderr)


def test_a_network(model):
    images = levels(3, (3, 2, 4))
    result = ode_likelihood(model, [images[:2], images[2:]], rtol=1e-2, atol=1e-2, quiet=True)
    assert result.per_image.shape == (3,)
    assert np.isfinite(result.per_image).all()
    assert result.evaluations >= 2 * 14
    assert (result.samples, result.tolerance) == (1, (1e-2, 1e-2))


def test_a_networks_exact_trace_is_the_mean_of_hutchinsons(smooth):
    v = levels(1, (3, 1, 2)).float() / 127.5 - 1
    exact = density(smooth, v, rtol=1e-3, atol=1e-3)[0][0]
    many = density(smooth, v.expand(64, -1, -1, -1), rademacher((64, 3, 1, 2)), rtol=1e-3, atol=1e-3)[0]
    assert many.mean() == pytest.approx(exact, abs=4 * many.std() / math.sqrt(len(many)) + 0.01)


@pytest.mark.parametrize("trace", ["hutchinson", "exact"])
def test_shards_have_the_draws_of_the_whole(trace):
    model, images = gaussian_data(dims=4), levels(6, (1, 2, 2))
    whole = ode_likelihood(model, images.split(3), samples=2, trace=trace, seed=5, quiet=True)
    for first in range(2):
        numbers = np.arange(first, 6, 2)
        shard = ode_likelihood(model, [images[numbers]], samples=2, trace=trace, seed=5, indices=[numbers], quiet=True)
        assert shard.per_image == pytest.approx(whole.per_image[numbers], abs=2e-3)
    merged = OdeLikelihood.merge([whole, shard])
    assert merged.per_image.tolist() == [*whole.per_image, *shard.per_image]
    assert merged.bits_per_dim == pytest.approx((6 * whole.bits_per_dim + 3 * shard.bits_per_dim) / 9)
    assert (merged.images, merged.evaluations) == (9, whole.evaluations + shard.evaluations)
    other = ode_likelihood(model, images.split(3), samples=2, trace=trace, seed=6, quiet=True)
    assert np.abs(other.per_image - whole.per_image).max() > 5e-3


@pytest.mark.parametrize("trace", ["hutchinson", "exact"])
def test_inference_mode_changes_nothing(smooth, trace):
    images = levels(2, (3, 1, 1))
    options = {"trace": trace, "rtol": 1e-2, "atol": 1e-2, "quiet": True}
    outside = ode_likelihood(smooth, [images], **options)
    with torch.inference_mode():
        inside = ode_likelihood(smooth, [images.clone()], **options)
    assert inside.per_image == pytest.approx(outside.per_image, rel=1e-6)


def test_a_model_that_returns_nan_ends_in_an_error():
    model = gaussian_data()
    model.mu = model.mu * math.nan
    with pytest.raises(FloatingPointError, match="not finite at gamma"):
        density(model, torch.zeros(1, 3, 2, 2))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"trace": "?"}, "unknown trace"),
        ({"samples": 0}, "at least 1"),
        ({"seed": -1}, "seed"),
        ({"rtol": 0.0}, "positive"),
        ({"indices": [[1, 2, 3]]}, "3 indices for a batch of 2"),
        ({"indices": []}, "shorter"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        ode_likelihood(gaussian_data(), [levels(2, (3, 2, 2))], quiet=True, **options)


def test_no_images_is_an_error():
    with pytest.raises(ValueError, match="no images"):
        ode_likelihood(gaussian_data(), [], quiet=True)
