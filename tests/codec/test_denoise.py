import math
from dataclasses import replace

import pytest
import torch

from codec.lossy.denoise import coarse, denoise, enlarge
from codec.lossy.tables import CodingTables
from ddpm.diffusion.gaussian import Step
from ddpm.diffusion.schedule import alpha_sigma


@pytest.mark.parametrize("scale", [2, 4])
@pytest.mark.parametrize("size", [(64, 96), (61, 99)])
def test_coarse_is_the_smaller_picture_at_its_own_gamma(size, scale):
    """z of a flat picture: mean and variance are those of q at gamma - 2 ln scale."""
    alpha, sigma = map(float, alpha_sigma(1.5))
    g = torch.Generator().manual_seed(0)
    z = alpha * 0.7 + sigma * torch.randn(40, 3, *size, generator=g)
    small, gamma = coarse(z, 1.5, scale)
    assert small.shape[2:] == tuple(-(-n // scale) for n in size)
    assert gamma == pytest.approx(1.5 - 2 * math.log(scale))
    alpha, sigma = map(float, alpha_sigma(gamma))
    assert float(small.mean()) == pytest.approx(alpha * 0.7, abs=0.01)
    assert float(small.std()) == pytest.approx(sigma, rel=0.01)
    assert enlarge(small, scale, size).shape[2:] == size


def test_enlarge_undoes_the_averaging_of_a_ramp():
    ramp = torch.arange(32.0).expand(1, 1, 32, 32)
    small = torch.nn.functional.avg_pool2d(ramp, 4)
    torch.testing.assert_close(enlarge(small, 4, (32, 32))[..., 2:-2], ramp[..., 2:-2])


def test_denoise_at_a_coarser_scale_is_consistent(model):
    """x_hat and m are those of the small picture: what DDPM.forward says of it, enlarged."""
    tables, z = CodingTables.of_model(model), torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        x_hat, m = denoise(model, replace(tables, levels=(2.0, 1.0), scales=(1, 2, 1)), 1, z)
        small, gamma = coarse(z, 2.0, 2)
        eps_hat, log_m = model(small, torch.full((2,), gamma))
    expected = Step(gamma, gamma - 1).x_hat(small, eps_hat).clamp(-1, 1)
    torch.testing.assert_close(x_hat, enlarge(expected, 2, (16, 16)), rtol=1e-4, atol=1e-4)
    variance = log_m.exp() * math.exp(gamma)  # of x given z, at the small size
    torch.testing.assert_close(m * math.exp(2.0), enlarge(variance, 2, (16, 16)).double(), rtol=1e-2, atol=1e-5)
