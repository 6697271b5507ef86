import numpy as np
import pytest

from ddpm.diffusion.schedule import Cosine, LinearBeta, LinearGamma, alpha_sigma, schedule_from_config


def test_alpha_sigma_are_a_rotation_with_the_given_log_snr():
    gamma = np.array([-30.0, -9.2, 0.0, 5.5, 30.0])
    alpha, sigma = alpha_sigma(gamma)
    np.testing.assert_allclose(alpha**2 + sigma**2, 1, rtol=1e-14)
    np.testing.assert_allclose(2 * (np.log(sigma) - np.log(alpha)), gamma, rtol=1e-12, atol=1e-12)


def test_linear_beta_is_the_papers():
    beta = np.linspace(1e-4, 0.02, 1000)
    alpha_bar = np.cumprod(1 - beta)
    gamma = LinearBeta().all_gammas()
    np.testing.assert_allclose(1 / (1 + np.exp(gamma[::-1])), alpha_bar, rtol=1e-10)
    assert abs(alpha_bar[-1] - 4.0358e-5) < 1e-8  # the published end of the schedule


@pytest.mark.parametrize("schedule", [LinearGamma(), Cosine(), LinearBeta()])
@pytest.mark.parametrize("steps", [1, 10, 250])
def test_levels_fall_from_end_to_end(schedule, steps):
    gammas = schedule.gammas(steps)
    assert len(gammas) == steps + 1
    assert gammas[0] == schedule.gamma_max
    assert gammas[-1] == schedule.gamma_min
    assert (np.diff(gammas) <= 0).all()
    if not isinstance(schedule, Cosine):
        assert (np.diff(gammas) < 0).all()


def test_sub_sequence_of_a_discrete_schedule_takes_its_own_levels():
    assert set(LinearBeta().gammas(50)) <= set(LinearBeta().all_gammas())
    with pytest.raises(ValueError, match="1 to 999"):
        LinearBeta().gammas(1000)


def test_config_round_trip():
    assert schedule_from_config({"kind": "linear-gamma", "gamma_max": 4.0}) == LinearGamma(4.0)
    with pytest.raises(ValueError, match="unknown schedule"):
        schedule_from_config({"kind": "sinus"})
