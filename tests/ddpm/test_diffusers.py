"""Models as diffusers saves them, against diffusers itself."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from ddpm.diffusion.gaussian import Step
from ddpm.diffusion.reverse import Reverse
from ddpm.diffusion.schedule import Discrete, LinearBeta
from ddpm.models.load import load_model
from ddpm.models.pretrained import STEM

from .pretrained_folders import CHURCH, CIFAR, diffusers, save

FORMS = [{"beta_schedule": f} for f in ("linear", "scaled_linear", "squaredcos_cap_v2", "sigmoid")]
FORMS += [{"trained_betas": [0.01, 0.02, 0.2], "num_train_timesteps": 3}]


def in_float64(scheduler, schedule):
    """Their scheduler without its float32 rounding of 1 - beta, which moves beta_1 by 1e-4 of itself."""
    scheduler.alphas = 1 - torch.from_numpy(schedule.betas())
    scheduler.alphas_cumprod = scheduler.alphas.cumprod(0)
    return scheduler


@pytest.mark.parametrize("settings", FORMS)
@pytest.mark.parametrize("exact", [True, False])
def test_schedule_and_posterior_are_diffusers(settings, exact, tmp_path):
    settings = {**settings, "prediction_type": "sample", "clip_sample": False}
    theirs = diffusers.DDPMScheduler(**settings)
    save(tmp_path, **settings)
    schedule = load_model(str(tmp_path)).schedule
    theirs = in_float64(theirs, schedule) if exact else theirs
    gamma = schedule.all_gammas()[::-1]
    np.testing.assert_allclose(1 / (1 + np.exp(gamma)), theirs.alphas_cumprod.numpy(), rtol=0, atol=1e-6)
    rng = torch.Generator().manual_seed(0)
    x, eps = (torch.randn(3, 8, 8, generator=rng, dtype=torch.float64) for _ in range(2))
    for t in {1, 2, schedule.T // 2, schedule.T - 1}:
        step = Step(gamma[t], gamma[t - 1])
        lower, upper = (float(theirs._get_variance(t, variance_type=v)) for v in ("fixed_small", "fixed_large"))
        atol = 1e-10 if exact else 1e-5
        np.testing.assert_allclose([step.std_q**2, step.sigma_t**2 * step.c], [lower, upper], rtol=0, atol=atol)
        z = step.alpha_t * x + step.sigma_t * eps
        noise = torch.randn(z.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        sample = theirs.step(x, t, z, generator=torch.Generator().manual_seed(1)).prev_sample
        atol = atol if exact or t > 2 else 1e-3
        torch.testing.assert_close(step.mean(z, x) + step.std_q * noise, sample, rtol=0, atol=atol)


def test_linear_schedule_is_the_papers_and_timesteps_are_exact():
    schedule = Discrete("linear")
    gamma = schedule.all_gammas()
    assert (gamma == LinearBeta().all_gammas()).all()
    for rounded in (gamma, gamma.astype(np.float32), np.round(gamma, 6)):
        assert (schedule.timestep(rounded) == np.arange(1000)[::-1]).all()
    assert schedule.timestep((gamma[99] + gamma[100]) / 2) == pytest.approx(899.5)
    assert schedule.timestep([99.0, -99.0]).tolist() == [999, 0]


def test_spread_levels_are_levels_and_nearly_even():
    schedule = Discrete("linear")
    levels = schedule.spread(40)
    assert set(levels) <= set(schedule.all_gammas())
    assert (levels[0], levels[-1]) == (schedule.gamma_max, schedule.gamma_min)
    assert 36 <= len(levels) <= 41
    assert (np.diff(levels) < 0).all()
    assert np.diff(levels).min() > -1.2  # from x_2 to x_1 alone it is 0.8


@pytest.mark.parametrize("wrong", [{"beta_T": 1.5}, {"T": 1}, {"form": "?"}, {"form": "trained", "given": (0.1,)}])
def test_impossible_betas_are_refused(wrong):
    with pytest.raises(ValueError, match=r"beta|steps"):
        Discrete(**wrong)


@pytest.mark.parametrize("variance", ["fixed_small", "fixed_small_log", "fixed_large"])
@pytest.mark.parametrize("clip", [True, False])
def test_an_ancestral_step_is_diffusers(tmp_path, variance, clip):
    net = save(tmp_path, variance_type=variance, clip_sample=clip)
    model, theirs = load_model(str(tmp_path)), diffusers.DDPMScheduler.from_pretrained(tmp_path)
    reverse = Reverse(model, model.variance, model.clip)
    theirs = in_float64(theirs, model.schedule)
    gamma = model.schedule.all_gammas()[::-1]
    rng = torch.Generator().manual_seed(0)
    x = torch.rand(2, 3, 16, 16, generator=rng) * 2 - 1
    for spacing in (1, 50):
        theirs.set_timesteps(1000 // spacing)
        for t in (spacing, 500, 950):
            step = Step(gamma[t], gamma[t - spacing])
            z = step.alpha_t * x + step.sigma_t * torch.randn(x.shape, generator=rng)
            noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
            with torch.inference_mode():
                x_hat, r = reverse.predict(step, z)
                ours = step.mean(z, x_hat) + step.std_q * (1 + r) ** 0.5 * noise
                told = net(z, t).sample.double()
                sample = theirs.step(told, t, z, generator=torch.Generator().manual_seed(1)).prev_sample
            torch.testing.assert_close(ours, sample, rtol=0, atol=1e-5)


@pytest.mark.parametrize("prediction", ["v_prediction", "sample"])
def test_other_predictions(tmp_path, prediction):
    net = save(tmp_path, prediction_type=prediction, clip_sample=False)
    model, theirs = load_model(str(tmp_path)), diffusers.DDPMScheduler.from_pretrained(tmp_path)
    z, step = torch.randn(1, 3, 16, 16), Step(*model.schedule.all_gammas()[::-1][[300, 299]])
    with torch.inference_mode():
        x_hat = Reverse(model, "beta-tilde", False).predict(step, z)[0]
        expected = theirs.step(net(z, 300).sample, 300, z).pred_original_sample
    torch.testing.assert_close(x_hat, expected, rtol=0, atol=1e-5)


def agrees(net, folder, side):
    """A loaded model gives the network's own output at whole timesteps, one for each image."""
    model = load_model(str(folder))
    z, t = torch.randn(2, 3, side, side), torch.tensor([0, 700])
    with torch.inference_mode():
        eps_hat, log_m = model(z, torch.from_numpy(model.schedule.all_gammas()[::-1][t.numpy()].copy()))
        torch.testing.assert_close(eps_hat, net(z, t).sample, rtol=0, atol=1e-5)
    assert log_m.shape == z.shape
    assert (log_m < 0).all()
    return model


def test_the_papers_cifar10_network(tmp_path):
    net = save(tmp_path, CIFAR, variance_type="fixed_large")
    model = agrees(net, tmp_path, 32)
    assert sum(p.numel() for p in model.parameters()) == 35_746_307
    assert (model.config["native"], model.stride, model.variance, model.clip) == (32, 8, "beta", True)


def test_the_size_of_the_papers_256_networks():
    with torch.device("meta"):
        net = diffusers.UNet2DModel(**CHURCH)
    assert sum(p.numel() for p in net.parameters()) == 113_673_219


@pytest.mark.slow
def test_the_papers_256_networks(tmp_path):
    model = agrees(save(tmp_path, CHURCH), tmp_path, 64)
    assert (model.config["native"], model.stride) == (256, 32)


@pytest.mark.parametrize(("unet", "scheduler"), [("", ""), ("unet", "scheduler"), ("unet", ""), ("", "scheduler")])
def test_layouts(tmp_path, unet, scheduler):
    agrees(save(tmp_path, unet=unet, scheduler=scheduler), tmp_path, 16)


def test_old_names_of_attention(tmp_path):
    net = save(tmp_path)
    path, old = tmp_path / (STEM + ".safetensors"), {"to_q": "query", "to_k": "key", "to_v": "value"}
    weights = {k.replace("to_out.0", "proj_attn"): v for k, v in load_file(path).items()}
    for new, name in old.items():
        weights = {k.replace(new, name): v for k, v in weights.items()}
    assert any("proj_attn" in k for k in weights)
    save_file(weights, path)
    agrees(net, tmp_path, 16)
