import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from scipy.stats import norm

from ddpm.diffusion.likelihood import discretized_gaussian_nats, to_levels, to_unit

GRID = torch.arange(256, dtype=torch.float64) / 127.5 - 1


def masses(mean, std):
    full = lambda v: torch.full((256,), v, dtype=torch.float64)  # noqa: E731
    return -discretized_gaussian_nats(GRID, full(mean), full(float(np.log(std)))).numpy()


@pytest.mark.parametrize("mean", [-1.2, -0.99, 0.003, 0.5, 1.05])
@pytest.mark.parametrize("std", [1e-3, 0.01, 0.3, 3.0])
def test_masses_sum_to_one(mean, std):
    assert logsumexp(masses(mean, std)) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("std", [0.02, 0.2])
def test_masses_are_differences_of_the_cdf(std):
    edges = np.concatenate([[-np.inf], (GRID.numpy()[1:] + GRID.numpy()[:-1]) / 2, [np.inf]])
    expected = np.diff(norm.cdf(edges, 0.1, std))
    keep = expected > 1e-9
    np.testing.assert_allclose(np.exp(masses(0.1, std))[keep], expected[keep], rtol=1e-4)


def test_far_tails_have_finite_value_and_gradient():
    mean = torch.tensor([-1.0, 1.0, 0.0], requires_grad=True)
    log_std = torch.tensor([-7.0, -7.0, -7.0], requires_grad=True)
    nats = discretized_gaussian_nats(torch.tensor([1.0, -1.0, 0.5]) * 127 / 127.5, mean, log_std)
    nats.sum().backward()
    assert torch.isfinite(nats).all()
    assert torch.isfinite(mean.grad).all()
    assert torch.isfinite(log_std.grad).all()


def test_levels_survive_the_unit_interval():
    levels = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_levels(to_unit(levels)), levels)
    assert to_levels(torch.tensor([-5.0, 5.0])).tolist() == [0, 255]


def test_of_a_very_wide_gaussian_a_bin_has_some_mass():
    """Where its two edges have one cdf: some number, and no more than the limit of floats allows."""
    for dtype in (torch.float32, torch.float64):
        x = torch.tensor([-0.5, 0.2, 127 / 127.5], dtype=dtype)
        nats = discretized_gaussian_nats(x, torch.zeros(3, dtype=dtype), torch.full((3,), 40.0, dtype=dtype))
        assert torch.isfinite(nats).all()
        assert (nats > 10).all()
