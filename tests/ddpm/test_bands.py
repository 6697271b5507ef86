"""Noise by frequency: its schedule, its steps, and its bound against scipy, closed forms and the isotropic process."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.fft import dctn
from scipy.stats import norm

from ddpm.diffusion import cosines
from ddpm.diffusion.bands import BANDS, COLOURS, RINGS, Bands
from ddpm.diffusion.bound import terms_for
from ddpm.diffusion.gaussian import kl_nats
from ddpm.diffusion.ode import density
from ddpm.diffusion.process import Banded, BandStep
from ddpm.diffusion.reverse import Reverse
from ddpm.diffusion.sample import decode, encode_to
from ddpm.diffusion.schedule import LinearGamma, schedule_from_config
from ddpm.models.model import DDPM
from ddpm.training.losses import loss_for
from ddpm.training.presets import PRESETS
from ddpm.training.settings import TrainConfig

ENDS = {"gamma_max": 6.0, "gamma_min": -8.0}
VARIANCE = tuple(float(v) for v in np.geomspace(20, 0.001, BANDS))
SIZE = 11, 13  # not whole blocks


def some_bands(seed: int = 0, **changes) -> Bands:
    """Fine bands enter late."""
    rng = np.random.default_rng(seed)
    nodes = (6.0, 2.0, -1.0, -4.0, -8.0)
    ratios = rng.uniform(0.6, 1.3, (len(nodes), BANDS))
    ratios[-1] = 1
    ratios[0, BANDS // 2 :] = ratios[1, BANDS // 2 :] = ratios[2, -4:] = 0
    return replace(Bands(nodes, tuple(map(tuple, ratios.tolist())), VARIANCE), **changes)


def even() -> Bands:
    """The isotropic process."""
    return Bands((6.0, -8.0), ((1.0,) * BANDS,) * 2, VARIANCE)


class Linear(torch.nn.Module):
    """A denoiser that shrinks; as wrong as it likes, the terms are those of a bound."""

    device = torch.device("cpu")

    def __init__(self, schedule):
        super().__init__()
        self.schedule = schedule

    def forward(self, z, gamma):
        gamma = gamma.to(z).view(-1, 1, 1, 1)
        return z * torch.sigmoid(gamma) * 0.9, torch.log(0.3 + 0.1 * z**2) - 0.1 * gamma


def pictures(n=2, seed=0) -> torch.Tensor:
    return torch.rand(n, 3, *SIZE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 2 - 1


def noise_like(x, seed=1) -> torch.Tensor:
    return torch.randn(x.shape, generator=torch.Generator().manual_seed(seed), dtype=x.dtype)


def by_scipy(x: np.ndarray) -> np.ndarray:
    """(3, H, W) -> coordinates, by blocks of 8."""
    x, out = dctn(x, axes=[0], norm="ortho"), np.empty_like(x)
    for i in range(0, x.shape[1], 8):
        for j in range(0, x.shape[2], 8):
            out[:, i : i + 8, j : j + 8] = dctn(x[:, i : i + 8, j : j + 8], axes=[1, 2], norm="ortho")
    return out


def test_coordinates_are_scipys_and_come_back():
    x = pictures()
    z = cosines.coordinates(x, 8)
    assert np.allclose(z.numpy(), np.stack([by_scipy(one) for one in x.numpy()]), atol=1e-12)
    assert torch.allclose(cosines.picture(z, 8), x, atol=1e-12)


def test_bands_are_rings_of_each_colour():
    band = cosines.band_of(8, (16, 16)).long()
    assert band[:, 0, 0].tolist() == [0, RINGS, 2 * RINGS]
    assert band[0, 3, 12].item() == 5  # 3 and 4 half periods
    assert set(band.flatten().tolist()) == set(range(BANDS))
    assert torch.equal(band[:, :8, 8:], band[:, 8:, :8])


@given(st.integers(0, 50), st.floats(-8, 6), st.floats(0.01, 3))
@settings(max_examples=60, deadline=None)
def test_a_step_leads_from_q_to_q(seed, t, length):
    """q(z_s | x) comes out of q(z_t | x) and q(z_s | z_t, x), in every band."""
    bands = some_bands(seed)
    step = BandStep(bands, t, t - length)
    assert np.allclose(step.z_coef * step.alpha_t + step.x_coef, step.alpha_s, atol=1e-9)
    assert np.allclose(step.z_coef**2 * step.sigma_t**2 + step.std_q**2, step.sigma_s**2, atol=1e-9)
    assert np.allclose(step.alpha_s**2 / step.sigma_s**2, bands.snr(t - length))
    assert np.allclose((step.x_coef / step.std_q) ** 2, bands.snr(t - length) - bands.snr(t), rtol=1e-6, atol=1e-9)


@given(st.floats(-7.9, 5.9))
def test_slopes_are_those_of_the_snr(t):
    bands, h = some_bands(), 1e-6
    if min(abs(t - node) for node in bands.nodes) > 1e-3:
        found = (bands.snr(t - h) - bands.snr(t + h)) / (2 * h)
        assert np.allclose(bands.snr_slope(t), found, rtol=1e-5, atol=1e-8)


def test_what_the_network_sees_looks_like_isotropic_noise():
    """By its variance in each band, if it is not sharpened; and where all ratios are 1 it is z as it is."""
    t = -0.5
    bands = some_bands()
    snr, v = bands.snr(t), np.asarray(VARIANCE)
    assert (snr > 0).any()
    assert (snr == 0).any()
    of_z = np.where(snr > 0, (snr * v + 1) / (1 + snr), 1.0)
    alpha2 = 1 / (1 + np.exp(t))
    assert np.allclose(bands.view(t) ** 2 * of_z, (v + np.exp(t)) * alpha2)
    sharp = replace(bands, sharpness=1.0).view(t) / np.sqrt(alpha2)
    assert (sharp[snr == 0] == 0).all()
    guess = bands.snr(t) / (1 + v * snr) * (v + np.exp(t))  # times x + noise: of the isotropic y, from z
    assert np.allclose(sharp[snr > 0], (guess * np.sqrt((1 + snr) / np.where(snr > 0, snr, 1)))[snr > 0])
    for sharpness in (0.0, 0.15, 1.0):
        step = BandStep(replace(even(), sharpness=sharpness), t, t - 1)
        assert np.allclose(step.view, 1)


@pytest.mark.parametrize("variance", ["learned", "beta-tilde"])
def test_equal_bands_are_the_isotropic_process(variance):
    """Every term, with the same noise turned into their coordinates; learned variances are means over blocks."""
    x = pictures()
    eps = noise_like(x)
    banded, plain = (terms_for(Reverse(Linear(s), variance), 6) for s in (even(), LinearGamma(**ENDS)))
    turned = cosines.picture(eps, 8)
    assert torch.allclose(banded.prior(x), plain.prior(x), atol=1e-9)
    for k in range(5):
        (a, shown), (b, wanted) = banded.term(k, x, eps), plain.term(k, x, turned)
        assert torch.allclose(shown, wanted, atol=1e-9)
        assert torch.allclose(a, b, rtol=1e-9 if variance == "beta-tilde" else 0.05)
    for a, b in zip(banded.distortion(x, eps), plain.distortion(x, turned)):
        assert torch.allclose(a, b, atol=1e-9)


@pytest.mark.parametrize("k", range(6))
def test_a_term_is_the_kl_of_gaussians_by_band(k):
    """From gamma and Bayes' rule alone, with scipy's cosines: nothing of the package but the network and the table."""
    bands, x = some_bands(3, sharpness=0.15), pictures(1)
    eps, terms = noise_like(x), terms_for(Reverse(Linear(bands), "beta-tilde", clip=False), 7)
    t, s = bands.gammas(6)[k : k + 2]
    band = cosines.band_of(8, SIZE).long().numpy()
    snr_t, snr_s = bands.snr(t)[band], bands.snr(s)[band]
    a_t, a_s = np.sqrt(snr_t / (1 + snr_t)), np.sqrt(snr_s / (1 + snr_s))
    v_t, v_s = 1 / (1 + snr_t), 1 / (1 + snr_s)
    c = by_scipy(x[0].numpy())
    z = a_t * c + np.sqrt(v_t) * eps[0].numpy()
    # z_t = a z_s + noise: of what is sent later, q(z_s | z_t, x) follows from q(z_s | x) by Bayes' rule.
    a = np.divide(a_t, a_s, out=np.zeros_like(a_t), where=a_s > 0)
    noise = v_t - a**2 * v_s
    precision = 1 / v_s + a**2 / noise
    seen = torch.from_numpy(bands.view(t)[band] * z)[None]
    z_seen = cosines.picture(seen, 8)
    eps_hat, _ = terms.reverse.model(z_seen, torch.tensor([t]))
    x_hat = by_scipy(((z_seen - (1 + np.exp(-t)) ** -0.5 * eps_hat) * (1 + np.exp(t)) ** 0.5)[0].numpy())
    means = [(a_s * of / v_s + a * z / noise) / precision for of in (c, x_hat)]
    found = np.mean((means[0] - means[1]) ** 2 * precision / 2)
    assert terms.term(k, x, eps)[0].item() == pytest.approx(found, rel=1e-9)
    q, p = (norm(m.flat[0], precision.flat[0] ** -0.5) for m in means)
    grid = np.linspace(q.ppf(1e-12), q.ppf(1 - 1e-12), 20001)
    by_integral = np.trapezoid(q.pdf(grid) * (q.logpdf(grid) - p.logpdf(grid)), grid)
    assert kl_nats(((means[0] - means[1]) ** 2 * precision).flat[0]) == pytest.approx(by_integral, rel=1e-4, abs=1e-9)


def test_many_steps_tend_to_the_limit():
    bands, x = some_bands(4), pictures(1).repeat(64, 1, 1, 1)
    model = Linear(bands)
    u = (np.arange(64) + 0.5) / 64
    limit = np.mean([terms_for(Reverse(model), None).drawn(u, x, noise_like(x, seed)).mean() for seed in range(8)])
    many = terms_for(Reverse(model, "beta-tilde"), 400)
    total = sum(many.term(k, x[:4], noise_like(x[:4], k))[0].mean() for k in range(399))
    assert limit == pytest.approx(float(total), rel=0.03)


def test_samples_and_the_flow_end_in_pictures():
    bands = some_bands(5)
    reverse, x = Reverse(Linear(bands)), pictures(2).float()
    gammas = reverse.levels(9)
    z = encode_to(reverse, x, gammas[-1], noise_like(x))
    assert (cosines.picture(z, 8) - x).std() < 0.05  # nearly the picture, in its pixels
    shown = decode(reverse, noise_like(x).float(), gammas, None, method="flow", keep=(0, -1))
    assert shown.shape == (2, 2, 3, *SIZE)
    assert shown.isfinite().all()
    assert Banded(bands).pixels(Banded(bands).coordinates(x)).allclose(x, atol=1e-5)


def test_the_flow_has_no_likelihood_yet():
    with pytest.raises(ValueError, match="isotropic"):
        density(Linear(some_bands()), pictures())


def test_a_model_has_it_in_its_configuration():
    bands = some_bands()
    config = {"kind": "bands", **{name: getattr(bands, name) for name in ("nodes", "ratios", "variance", "block")}}
    assert np.array_equal(schedule_from_config(config).snr(1.0), bands.snr(1.0))
    network = {"kind": "local", "widths": [4], "down": [1], "up": [0]}
    model = DDPM({"schedule": config, "network": network})
    total = terms_for(Reverse(model), 4).term(0, pictures().float(), noise_like(pictures()).float())[0]
    assert total.isfinite().all()


WRONG = {
    "too few": {"ratios": ((1.0,),) * 5},
    "unequal end": {"ratios": (*some_bands().ratios[:-1], (0.5,) * BANDS)},
    "rising t": {"nodes": (6.0, 7.0, -1.0, -4.0, -8.0)},
    "a falling SNR": {"ratios": ((1.0,) * BANDS, (90.0,) * BANDS, (0.1,) * BANDS, *some_bands().ratios[3:])},
    "no variance": {"variance": (0.0,) * BANDS},
    "a variance that is none": {"variance": (*VARIANCE[:5], float("nan"), *VARIANCE[6:])},
    "no block": {"block": 0},
    "a look from far away": {"looks": ((2.0, 10**9),)},
    "too few variances": {"variance": (1.0,) * COLOURS},
}


@pytest.mark.parametrize("changes", WRONG.values(), ids=WRONG)
def test_what_is_no_schedule_is_refused(changes):
    with pytest.raises(ValueError, match=r"bands|noise|SNR"):
        some_bands(**changes)


@pytest.mark.parametrize("bands", [even(), some_bands(6, sharpness=0.15)], ids=["equal", "unlike"])
def test_what_training_makes_small_is_the_limit_of_the_bound(bands):
    """Diffusion and L_0, of the same pictures and network, noise drawn by each for itself."""
    x, model = pictures(1).float().repeat(512, 1, 1, 1), Linear(bands)
    loss_of = loss_for(TrainConfig({}, [], decoder_share=0.25), bands)
    drawn = [loss_of(model, x, torch.Generator().manual_seed(seed))[1] for seed in range(4)]
    terms, u = terms_for(Reverse(model, clip=False), None), (np.arange(512) + 0.5) / 512
    diffusion = [terms.drawn(u, x, noise_like(x, seed)).mean() / np.log(2) for seed in range(4)]
    l0 = terms_for(Reverse(model, clip=False), None).distortion(x, noise_like(x))[0].mean() / np.log(2)
    assert np.mean([d["diffusion"] for d in drawn]) == pytest.approx(float(np.mean(diffusion)), rel=0.02)
    assert np.mean([d["l0"] for d in drawn]) == pytest.approx(float(l0), rel=0.02)


def test_of_equal_bands_the_loss_is_the_isotropic_one():
    x = pictures(1).float().repeat(1024, 1, 1, 1)
    config = TrainConfig({}, [], focus=0.5)
    banded, plain = (
        loss_for(config, s)(Linear(s), x, torch.Generator().manual_seed(0))[0] for s in (even(), LinearGamma(**ENDS))
    )
    assert float(banded) == pytest.approx(float(plain), rel=0.02)


def test_other_objectives_are_of_isotropic_noise():
    with pytest.raises(ValueError, match="bound"):
        loss_for(TrainConfig({}, [], objective="simple"), even())


def test_the_preset_of_photographs_is_a_schedule():
    bands = schedule_from_config(PRESETS["photo-bands"]["model"]["schedule"])
    assert isinstance(bands, Bands)
    assert (bands.snr(5.0) > 0).sum() == 4  # the lowest of grey, and the blocks' mean colours
    assert (bands.snr(-4.0) > 0).all()


LOOKS = ((2.5, 4), (0.5, 2))


def test_at_noisy_levels_the_network_sees_a_smaller_picture():
    """The mean of what it would see, at its own gamma, and what it says is enlarged."""
    bands, seen = some_bands(7, looks=LOOKS), []

    class Watched(Linear):
        def forward(self, z, gamma):
            seen.append((z, gamma))
            return super().forward(z, gamma)

    assert [bands.scale(t) for t in (6, 2.6, 2.5, 0.6, 0.5, -8)] == [4, 4, 2, 2, 1, 1]
    assert [bands.reach(scale) for scale in (4, 2, 1)] == [(6, 2.5), (2.5, 0.5), (0.5, -8)]
    reverse, x = Reverse(Watched(bands)), torch.rand(2, 3, 16, 8, dtype=torch.float64)
    process, z = reverse.process, noise_like(x)
    step = process.over(process.step(3.0, 2.0), z)
    x_hat, log_m, _ = reverse.evaluate(step, z)
    [(small, gamma)] = seen
    assert small.shape == (2, 3, 4, 2)
    assert gamma.tolist() == pytest.approx([3 - 2 * np.log(4)] * 2)
    whole = process.seen(step, z)
    unit = 4 / np.sqrt(16 / (1 + np.exp(3)) + 1 / (1 + np.exp(-3)))
    assert torch.allclose(small, whole.unflatten(3, (2, 4)).unflatten(2, (4, 4)).mean((3, 5)) * unit)
    assert process.pixels(x_hat).var() < whole.var()
    assert log_m.exp().mean() == pytest.approx(float(Linear(bands)(small, gamma)[1].exp().mean() / 16), rel=0.2)


def test_a_batch_of_different_levels_is_seen_as_each_alone():
    bands, x = some_bands(8, looks=LOOKS), pictures(3)
    reverse, process = Reverse(Linear(bands)), Banded(bands)
    steps, z = [process.step(t, t - 1) for t in (4.0, 1.0, -3.0)], noise_like(pictures(3))
    together = reverse.evaluate(process.over(BandStep.stack(steps, x), z), z)
    for i, step in enumerate(steps):
        alone = reverse.evaluate(process.over(step, z[i : i + 1]), z[i : i + 1])
        for one, all_of_them in zip(alone, together):
            assert torch.allclose(one[0], all_of_them[i])


def test_crops_of_each_size_train_its_levels():
    """Together they are the limit of the bound, in which the network sees pictures so, too."""
    bands = some_bands(9, looks=LOOKS)
    model, config = Linear(bands), TrainConfig({}, [], crop=(8, 16, 32), decoder_share=0.25)
    loss_of, x = loss_for(config, bands), torch.rand(1, 3, 32, 32).repeat(96, 1, 1, 1) * 2 - 1
    drawn = []
    for size in config.crop:
        parts = x.unflatten(3, (-1, size)).unflatten(2, (-1, size)).permute(0, 2, 4, 1, 3, 5).flatten(0, 2)
        drawn += [loss_of(model, parts, torch.Generator().manual_seed(seed))[1] for seed in range(2)]
    terms, u = terms_for(Reverse(model, clip=False), None), (np.arange(96) + 0.5) / 96
    wanted = np.mean([terms.drawn(u, x, noise_like(x, seed)).mean() / np.log(2) for seed in range(8)])
    assert np.mean([d["diffusion"] for d in drawn]) == pytest.approx(float(wanted), rel=0.03)
    with pytest.raises(ValueError, match="sizes"):
        loss_for(TrainConfig({}, [], crop=(8, 16)), bands)
    with pytest.raises(ValueError, match="looks"):
        some_bands(looks=((0.5, 2), (2.5, 4)))
