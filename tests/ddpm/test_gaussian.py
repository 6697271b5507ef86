import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from ddpm.diffusion.gaussian import Step, kl_nats, prior_kl_nats
from ddpm.diffusion.schedule import alpha_sigma

levels = st.tuples(st.floats(-9, 8), st.floats(0.01, 3)).map(lambda t: Step(t[0], t[0] - t[1]))


@given(levels, st.floats(-1, 1), st.floats(-3, 3))
def test_posterior_is_bayes(step, x, z_t):
    """q(z_s | z_t, x) from the product of q(z_s | x) and q(z_t | z_s), by precision weighting."""
    ratio = step.alpha_t / step.alpha_s
    kernel_variance = step.sigma_t**2 - ratio**2 * step.sigma_s**2
    precision = 1 / step.sigma_s**2 + ratio**2 / kernel_variance
    mean = (step.alpha_s * x / step.sigma_s**2 + ratio * z_t / kernel_variance) / precision
    assert step.mean(z_t, x) == pytest.approx(mean, rel=1e-6, abs=1e-6)
    assert step.std_q == pytest.approx(precision**-0.5, rel=1e-6)


@given(levels)
def test_moving_to_the_mean_is_the_mean(step):
    x, z_t = torch.randn(2, 50, generator=torch.Generator().manual_seed(0))
    mean = step.mean(z_t, x)
    step.move_to_mean(z_t, x)
    assert torch.equal(z_t, mean)


@given(levels, st.floats(-1, 1), st.floats(-3, 3), st.floats(-3, 3))
def test_delta_is_the_eps_error_times_the_gain(step, x, eps, eps_hat):
    z = step.alpha_t * x + step.sigma_t * eps
    delta = step.delta(x, step.x_hat(z, eps_hat))
    assert delta**2 == pytest.approx(step.gain * (eps - eps_hat) ** 2, rel=1e-6, abs=1e-9)


@given(levels, st.floats(-1, 1), st.floats(-3, 3))
def test_flow_with_the_true_noise_stays_on_the_line(step, x, eps):
    assert step.flow(x, eps) == pytest.approx(step.alpha_s * x + step.sigma_s * eps)


@pytest.mark.parametrize("r", [0.0, 0.3, 2.0])
def test_kl_against_numerical_integration(r):
    delta = 0.7
    q, p = stats.norm(delta, 1), stats.norm(0, math.sqrt(1 + r))
    grid = np.linspace(-12, 12, 200001)
    integral = np.trapezoid(q.pdf(grid) * (q.logpdf(grid) - p.logpdf(grid)), grid)
    assert kl_nats(np.array(delta**2), np.array(r)) == pytest.approx(integral, rel=1e-7)


def test_with_one_variance_the_kl_is_half_the_square():
    assert kl_nats(np.array([0, 0.5, 3])).tolist() == [0, 0.25, 1.5]


def test_prior_kl_is_the_gaussian_formula():
    alpha, sigma = alpha_sigma(3.0)
    x = 0.8
    expected = -math.log(sigma) + (sigma**2 + (alpha * x) ** 2) / 2 - 0.5
    assert prior_kl_nats(np.array(x), *map(float, alpha_sigma(3.0))) == pytest.approx(expected, rel=1e-9)


def test_a_step_must_remove_noise():
    with pytest.raises(ValueError, match="fall"):
        Step(1.0, 1.0)


def test_from_pure_noise_only_x_matters():
    """q(z_s | z_t, x) is q(z_s | x) where z_t knows nothing of x."""
    step = Step(math.inf, 1.5)
    alpha, sigma = alpha_sigma(1.5)
    assert step.mean(7.0, 0.3) == pytest.approx(0.3 * alpha)
    assert step.std_q == pytest.approx(sigma)
    assert (step.alpha_t, step.sigma_t, step.c, step.gain) == (0, 1, 1, math.inf)
