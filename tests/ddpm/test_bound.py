"""The bound against an independent float64 implementation with scipy, against samples, and against known entropies."""

import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.signal import correlate
from scipy.special import expit
from scipy.stats import norm

from ddpm.diffusion.bound import Bound, Terms, bound, spread, terms_for
from ddpm.diffusion.gaussian import Step
from ddpm.diffusion.likelihood import to_unit
from ddpm.diffusion.reverse import Reverse
from ddpm.diffusion.schedule import LinearBeta, LinearGamma
from ddpm.models.load import load_model

PICTURE = Path(__file__).parents[2] / "bench" / "pictures" / "kodim23-half.png"

BETAS = np.linspace(1e-4, 0.02, 1000)
ABAR = np.cumprod(1 - BETAS)


class Tiny(torch.nn.Module):
    """Two 3x3 convolutions with tanh between, float64."""

    def __init__(self, seed=0):
        super().__init__()
        rng = np.random.default_rng(seed)
        self.w1, self.w2 = 0.4 * rng.standard_normal((4, 3, 3, 3)), 0.3 * rng.standard_normal((6, 4, 3, 3))
        self.schedule, self.device = LinearBeta(), torch.device("cpu")

    def forward(self, z, gamma):
        conv = lambda x, w: torch.nn.functional.conv2d(x, torch.from_numpy(w), padding=1)  # noqa: E731
        h = conv(torch.tanh(conv(z, self.w1) + 0.1 * gamma[:, None, None, None]), self.w2)
        return 0.7 * z + h[:, :3], h[:, 3:] - 1

    def by_scipy(self, z, gamma):
        conv = lambda x, w: np.stack([sum(correlate(c, k, "same") for c, k in zip(x, f)) for f in w])  # noqa: E731
        h = conv(np.tanh(conv(z, self.w1) + 0.1 * gamma), self.w2)
        return 0.7 * z + h[:3], h[3:] - 1


def by_scipy(net, x, eps, variance, clip, levels):
    """L_T, L_{t-1} for every t of ``levels`` (descending, 0-based) and L_0, bits/dim, from betas as in the paper."""
    dim = lambda nats: nats.mean() / math.log(2)  # noqa: E731
    abar = ABAR[levels]
    gamma = np.log1p(-abar) - np.log(abar)
    mean, var = math.sqrt(abar[0]) * x, 1 - abar[0]
    out = [dim(0.5 * (mean**2 + var - 1 - math.log(var)))]

    def guess(i):
        z = math.sqrt(abar[i]) * x + math.sqrt(1 - abar[i]) * eps[i]
        eps_hat, log_m = net.by_scipy(z, gamma[i])
        x_hat = (z - math.sqrt(1 - abar[i]) * eps_hat) / math.sqrt(abar[i])
        return z, np.clip(x_hat, -1, 1) if clip else x_hat, log_m

    for i in range(len(levels) - 1):
        z, x_hat, log_m = guess(i)
        alpha_bar, previous = abar[i], abar[i + 1]
        beta = 1 - alpha_bar / previous
        tilde = beta * (1 - previous) / (1 - alpha_bar)
        x_coef = math.sqrt(previous) * beta / (1 - alpha_bar)  # of the posterior mean (Ho et al. 2020, eq. 7)
        z_coef = math.sqrt(alpha_bar / previous) * (1 - previous) / (1 - alpha_bar)
        # delta^2 = (mean_q - mean_p)^2 / tilde, and eps - eps_hat follows from x_hat - x
        slope = x_coef**2 / tilde * (1 - alpha_bar) / alpha_bar
        wide = {"beta": beta, "beta-tilde": tilde, "learned": tilde * (1 + slope * np.exp(log_m))}[variance]
        difference = (x_coef * x + z_coef * z) - (x_coef * x_hat + z_coef * z)
        out.append(dim(0.5 * (np.log(wide / tilde) + (tilde + difference**2) / wide - 1)))
    _, x_hat, log_m = guess(len(levels) - 1)
    std = math.sqrt(tilde) if variance != "learned" else np.exp(0.5 * (log_m + gamma[-1]))
    upper = np.where(x > 0.999, np.inf, x + 1 / 255)
    lower = np.where(x < -0.999, -np.inf, x - 1 / 255)
    right = lower > x_hat  # in the right tail survival functions keep the digits
    mass = np.where(
        right,
        norm.sf(lower, x_hat, std) - norm.sf(upper, x_hat, std),
        norm.cdf(upper, x_hat, std) - norm.cdf(lower, x_hat, std),
    )
    return [*out, dim(-np.log(mass))]


@pytest.mark.parametrize("variance", ["learned", "beta", "beta-tilde"])
@pytest.mark.parametrize("clip", [False, True])
@pytest.mark.parametrize("steps", [12, 300])
def test_every_term_agrees_with_scipy(variance, clip, steps):
    net, rng = Tiny(), np.random.default_rng(1)
    levels = np.round(np.linspace(999, 0, steps)).astype(int)
    # Levels near what the network guesses, so that masses far out in the tails do not vanish in either computation.
    x = rng.integers(0, 256, (3, 4, 4)) / 127.5 - 1
    eps = rng.standard_normal((steps, *x.shape))
    if variance != "learned":
        eps[-1] *= 0.01
        net.w1 *= 0.01
        net.schedule = LinearBeta()
    expected = by_scipy(net, x, eps, variance, clip, levels)
    terms = terms_for(Reverse(net, variance, clip), steps)
    tx, te = torch.from_numpy(x)[None], torch.from_numpy(eps)
    found = [terms.prior(tx), *(terms.term(k, tx, te[k : k + 1])[0] for k in range(steps - 1))]
    found.append(terms.distortion(tx, te[-1:])[0])
    found = np.array([float(v[0]) for v in found]) / math.log(2)
    assert np.isfinite(expected).all()
    np.testing.assert_allclose(found, expected, rtol=1e-6)


class Normal(torch.nn.Module):
    """The best network for x ~ N(mu, s^2) in every dimension, and its exact uncertainty."""

    def __init__(self, mu=0.1, s=0.3, gamma_max=9.0, gamma_min=-9.2):
        super().__init__()
        self.mu, self.s, self.device = mu, s, torch.device("cpu")
        self.schedule = LinearGamma(gamma_max, gamma_min)

    def forward(self, z, gamma):
        g = gamma[:, None, None, None].to(z)
        alpha, sigma = torch.sigmoid(-g).sqrt(), torch.sigmoid(g).sqrt()
        power = alpha**2 * self.s**2 + sigma**2
        eps_hat = sigma * (z - alpha * self.mu) / power
        return eps_hat, (alpha**2 * self.s**2 / power).log().expand_as(z)


def normal_pictures(n=64, mu=0.1, s=0.3, seed=0):
    x = mu + s * np.random.default_rng(seed).standard_normal((n, 3, 8, 8))
    return torch.from_numpy(np.clip(np.rint((x + 1) * 127.5), 0, 255).astype(np.uint8))


@pytest.mark.parametrize(("steps", "noise"), [(None, 0.03), (30, 0.01), (200, 0.01)])
def test_gaussian_data_cost_their_entropy(steps, noise):
    """With the true posterior and p's variance as wide as it is, the bound is tight at any T."""
    pictures = normal_pictures(200)
    reverse = Reverse(Normal(), clip=False)
    found = bound(terms_for(reverse, steps), [pictures], samples=24 if steps is None else None, quiet=True)
    grid = (np.arange(256) - 127.5) / 127.5
    mass = np.diff(norm.cdf([-np.inf, *(grid[1:] - 1 / 255), np.inf], 0.1, 0.3))
    entropy = -(mass * np.log2(mass)).sum()
    exact = -np.log2(mass[pictures.numpy()]).mean()  # of these very pictures
    assert exact == pytest.approx(entropy, abs=0.02)
    assert found.total == pytest.approx(exact, abs=noise)
    assert found.total == pytest.approx(found.rate + found.distortion)


def test_terms_are_the_expectation_of_log_q_over_p():
    """E log q(z_s | z_t, x)/p(z_s | z_t) over samples z_s, for each variance."""
    model, rng = Normal(), np.random.default_rng(3)
    x = torch.full((1, 3, 64, 64), 0.37, dtype=torch.float64)
    eps = torch.from_numpy(rng.standard_normal(x.shape))
    for variance in ("learned", "beta", "beta-tilde"):
        reverse = Reverse(model, variance, clip=False)
        terms = terms_for(reverse, 12)
        for k in (0, 5, 10):
            step = terms.steps[k]
            z_t = step.alpha_t * x + step.sigma_t * eps
            x_hat, r = reverse.predict(step, z_t)
            q = torch.distributions.Normal(step.mean(z_t, x), step.std_q)
            p = torch.distributions.Normal(step.mean(z_t, x_hat), step.std_q * torch.as_tensor(1 + r).sqrt())
            z_s = q.sample((50,))
            ratio = (q.log_prob(z_s) - p.log_prob(z_s)).flatten(1).mean(1)
            expected = float(terms.term(k, x, eps)[0][0])
            assert float(ratio.mean()) == pytest.approx(expected, abs=5 * float(ratio.std()) / 50**0.5 + 1e-9)


def test_more_steps_never_cost_more():
    """For a trained model on a photograph; and with q's own variance even for one that is wrong about its data."""
    photograph = np.asarray(Image.open(PICTURE).convert("RGB"))
    crops = torch.from_numpy(np.stack([photograph[96:128, i : i + 32] for i in range(64, 160, 32)])).permute(0, 3, 1, 2)
    wrong, trained = Normal(mu=0.3, s=0.2), load_model("cifar10")
    for reverse, pictures, ts in (
        (Reverse(wrong, "beta-tilde"), normal_pictures(20), (50, 200, 1000)),
        (Reverse(trained, "beta-tilde"), crops, (8, 12)),
        (Reverse(trained), crops, (8, 12)),
    ):
        totals = [bound(terms_for(reverse, t), [pictures], quiet=True) for t in ts]
        for few, many in pairwise(totals):
            # With a fixed variance L_0 has that of the last step, which shrinks: there the rate alone must fall.
            cost = lambda b: b.per_image if reverse.variance == "learned" else b.parts[:, :2].sum(1)  # noqa: B023, E731
            gap = cost(many) - cost(few)
            assert gap.mean() < 2 * gap.std() / len(gap) ** 0.5


@pytest.mark.parametrize("schedule", [LinearBeta(), LinearGamma(6.0, -9.0)])
def test_monte_carlo_agrees_with_all_terms(schedule):
    model, pictures = Normal(), [normal_pictures(64)]
    model.schedule = schedule
    terms = terms_for(Reverse(model), 100)
    every, drawn = bound(terms, pictures, quiet=True), bound(terms, pictures, samples=20, quiet=True)
    gap = drawn.per_image - every.per_image
    assert abs(gap.mean()) < 4 * gap.std() / 8 + 1e-3
    assert (every.samples, drawn.samples, drawn.terms) == (None, 20, None)
    assert drawn.distortion == pytest.approx(every.distortion, rel=0.01)


def test_the_limit_is_what_many_steps_approach():
    pictures, reverse = [normal_pictures(100)], Reverse(Normal(mu=0.2), "learned", clip=False)
    limit = bound(terms_for(reverse, None), pictures, samples=400, quiet=True)
    many = bound(terms_for(reverse, 800), pictures, samples=400, quiet=True)
    assert limit.total == pytest.approx(many.total, rel=0.004)
    assert limit.to_json()["steps"] == "infinity"


def test_images_may_be_shared_out_among_processes(model):
    pictures = normal_pictures(7)
    terms = terms_for(Reverse(model), 10)
    whole = bound(terms, [pictures], quiet=True)
    parts = [
        bound(terms, [pictures[r::2]], numbers=[np.arange(7)[r::2]], quiet=True) for r in range(2)
    ]  # as two ranks would
    merged = Bound.merge(parts)
    assert merged.total == pytest.approx(whole.total, rel=1e-6)
    assert merged.stderr == pytest.approx(whole.stderr, rel=1e-4)
    np.testing.assert_allclose(merged.terms, whole.terms, rtol=1e-5)


def test_named_terms_add_up(model):
    found = bound(terms_for(Reverse(model, "beta"), 10), [normal_pictures(3)], quiet=True)
    names = [t["term"] for t in found.named_terms()]
    assert names == ["L_10", *(f"L_{i}" for i in range(9, 0, -1)), "L_0"]
    assert sum(t["bits_per_dim"] for t in found.named_terms()) == pytest.approx(found.total)
    assert found.prior == pytest.approx(found.named_terms()[0]["bits_per_dim"])


def test_impossible_questions(model):
    with pytest.raises(ValueError, match="how many"):
        bound(terms_for(Reverse(model), None), [normal_pictures(2)], quiet=True)
    with pytest.raises(ValueError, match="no limit"):
        bound(terms_for(Reverse(model, "beta"), None), [normal_pictures(2)], samples=2, quiet=True)
    with pytest.raises(ValueError, match="two levels"):
        terms_for(Reverse(model), 1)
    with pytest.raises(ValueError, match="unknown variance"):
        Reverse(model, "gamma")


def test_a_model_that_does_not_say_how_sure_it_is_has_a_fixed_variance():
    net = Tiny()
    net.variance = "beta"
    assert (Reverse(net).variance, Reverse(net).clip, Reverse(net).autocast) == ("beta", True, False)
    assert [Reverse(net, v).variance for v in ("beta", "beta-tilde")] == ["beta", "beta-tilde"]
    with pytest.raises(ValueError, match="does not say how sure"):
        Reverse(net, "learned")
    del net.variance
    assert Reverse(net).variance == Reverse(net, "learned").variance == "learned"


def test_points_are_spread_evenly():
    points = np.sort(np.concatenate([spread(np.arange(100), j, 3, seed=0) for j in range(3)]))
    assert np.diff(points, prepend=points[-1] - 1).max() < 3 / 300


def test_a_batch_of_steps_is_its_steps_one_by_one():
    steps = [Step(3.0, 1.0), Step(0.5, -0.25)]
    z, x = torch.randn(2, 3, 4, 4, dtype=torch.float64), torch.rand(2, 3, 4, 4, dtype=torch.float64)
    stacked = Step.stack(steps, z)
    for i, step in enumerate(steps):
        torch.testing.assert_close(stacked.mean(z, x)[i], step.mean(z[i], x[i]))
        torch.testing.assert_close(stacked.delta(x, z)[i], step.delta(x[i], z[i]))
    assert expit(stacked.gamma_t.numpy()) == pytest.approx([s.sigma_t**2 for s in steps])
    assert Terms(Reverse(Normal()), [1.0, 0.0]).levels == 2
    assert to_unit(torch.tensor([0, 255])).tolist() == [-1, 1]
