"""Small factors that much depends on, each against a closed form, scipy, or a computation of its own."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import stats

from bench import archive
from bench.baselines.peers import overhead
from bench.channels.cases import Case
from bench.channels.measure import Setting, measure
from codec.archive.header import unpack
from codec.channel.simulation import IdealChannel, TrellisChannel
from codec.channel.trellis import Trellis
from codec.cli import bpd as cli_bpd
from codec.lossless import pixels as lossless
from codec.lossless.context import Sight
from codec.lossless.entropy import OCTAVE
from codec.lossless.likelihood import pixels as believed_pixels
from codec.lossy.denoise import seen_at
from codec.lossy.multipass import STARVED, Job, Sender, Sent
from codec.lossy.plan import MEAN, TILTS, UNIT, Allotment, Plan
from codec.lossy.tables import Context
from ddpm.diffusion import ode
from ddpm.diffusion.bound import Bound
from ddpm.diffusion.gaussian import Step
from ddpm.diffusion.likelihood import UNIT_LEVELS
from ddpm.diffusion.reverse import Reverse
from ddpm.diffusion.schedule import LinearGamma
from ddpm.images.batches import Batch
from ddpm.training.distributed import Workers
from ddpm.training.losses import BoundLoss
from ddpm.training.presets import preset_config
from tests.conftest import smooth_picture


class Normal(torch.nn.Module):
    """What is best for x ~ N(mu, s^2) in every dimension."""

    def __init__(self, mu=0.1, s=0.3):
        super().__init__()
        self.mu, self.s, self.schedule, self.device = mu, s, LinearGamma(9.0, -9.2), torch.device("cpu")

    def forward(self, z, gamma):
        g = gamma[:, None, None, None].to(z)
        alpha, sigma = torch.sigmoid(-g).sqrt(), torch.sigmoid(g).sqrt()
        power = alpha**2 * self.s**2 + sigma**2
        return sigma * (z - alpha * self.mu) / power, (alpha**2 * self.s**2 / power).log().expand_as(z)


@pytest.mark.parametrize("images", [2, 7])
def test_the_standard_error_is_scipys(images, monkeypatch):
    """The deviation of a sample (of its mean, not of one image), wherever one is told."""
    parts = np.random.default_rng(images).random((images, 3))
    figures, expected = parts.sum(1), stats.sem(parts.sum(1))
    assert Bound(parts, 10, None).stderr == pytest.approx(expected)
    assert Bound(parts, 10, None).to_json()["stderr"] == pytest.approx(expected)
    assert Bound(parts[:1], 10, None).stderr is None

    # one draw of each image, whose log-density is what makes its figure that of ``figures``
    nats = -figures * 3 * math.log(2) - 3 * math.log(2 / 255)
    draws = iter([nats])
    monkeypatch.setattr(ode, "density", lambda *_, **__: (next(draws), 1))
    x = torch.zeros(images, 3, 1, 1, dtype=torch.uint8)
    found = ode.ode_likelihood(Normal(), [x], quiet=True)
    assert found.per_image == pytest.approx(figures)
    assert found.stderr == pytest.approx(expected)

    draws, model = iter([nats]), Normal()
    model.name = "normal"
    batches, asked = [Batch(list(range(images)), x)], {"seed": 0, "quiet": True}
    told = cli_bpd.flow_figures(model, batches, Workers("cpu"), asked)
    assert told["total"] == pytest.approx(figures.mean())
    assert told["stderr"] == pytest.approx(expected)


def test_the_training_loss_of_gaussian_data_is_their_information():
    """The diffusion term is I(x; z_0) - I(x; z_T) = ln((1 + s^2 snr_0) / (1 + s^2 snr_T)) / 2."""
    model = Normal()
    config = preset_config("tiny", ["-"], {"focus": 0.0})
    x = model.mu + model.s * torch.randn(256, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    loss, terms = BoundLoss(config, model.schedule)(model, x, torch.Generator().manual_seed(1))
    information = [math.log1p(model.s**2 * math.exp(-gamma)) / 2 for gamma in (-9.2, 9.0)]
    expected = (information[0] - information[1]) / math.log(2)
    assert float(terms["diffusion"]) == pytest.approx(expected, rel=0.05)
    assert float(loss - terms["l0"] - config.variance_weight * terms["variance_nll"]) == pytest.approx(
        expected, rel=0.05
    )
    assert float(terms["bits_per_dim"]) == pytest.approx(float(terms["diffusion"] + terms["l0"]))


def test_a_grey_pixel_is_the_mean_of_three_colours(codec):
    """Its deviation for the bound, of pixels sure and unsure, and that of lossless files and archives."""
    z = torch.randn(1, 3, 8, 12, generator=torch.Generator().manual_seed(0)) * 0.3
    gamma, reverse = -9.2, Reverse(codec.model)
    with torch.inference_mode():
        mean, log_std = believed_pixels(reverse, Step(-8.7, gamma), z, True)
        colours, of_colours = reverse.pixels(Step(-8.7, gamma), z)
        means, scales = lossless.integers(gamma, *seen_at(codec.model, 1, gamma, z), True)
    assert mean.shape == log_std.shape == (1, 1, 8, 12)
    of_mean = np.sqrt(np.sum(np.exp(2 * of_colours.numpy()), 1) / 9)  # var((a + b + c) / 3)
    assert np.exp(log_std.numpy()[:, 0]) == pytest.approx(of_mean, rel=1e-5)
    assert mean.numpy()[:, 0] == pytest.approx(colours.numpy().mean(1), abs=1e-6)
    assert (means / 16 / UNIT_LEVELS - 1) == pytest.approx(mean.numpy().ravel(), abs=1e-3)
    assert scales / OCTAVE == pytest.approx(np.log2(UNIT_LEVELS * of_mean).ravel(), abs=0.6 / OCTAVE)


@pytest.mark.parametrize("wider", [0.25, 0.5, 1.0, 2.0, 3.0])
def test_the_lossless_bias_is_how_much_wider_pixels_lie(wider):
    """In eighths of an octave, over all groups together."""
    rng, groups = np.random.default_rng(0), []
    for scale in (24, 28):
        means = rng.integers(100 * 16, 150 * 16, 40_000).astype(np.int16)
        x = np.rint(means / 16 + wider * 2.0 ** (scale / OCTAVE) * rng.standard_normal(40_000))
        groups.append((x, means, np.full(40_000, scale, np.int16)))
    assert lossless.bias_of(groups) == round(OCTAVE * math.log2(wider))


def test_errors_of_up_to_eight_deviations_move_their_neighbours():
    """By half of them here; of deviations of a level, with its rounding."""
    halved = {(0, 0, -1): np.array([1 << 11])}
    known = Context(np.array([], int), {(0, 0): ({}, np.zeros(1, int)), (0, 1): (halved, np.zeros(1, int))})
    std = math.sqrt(4 + 1 / 12)  # of scale 8
    for x, deviations in (
        (114, 14 / std),
        (115, 15 / std),
        (116, 16 / std),
        (117, 8),
        (250, 8),
        (0, -8),
        (86, -14 / std),
    ):
        sight = Sight(known, np.full(2, 1600), np.full(2, 8), (1, 1, 1, 2))
        sight.update((0, 0), np.array([x]))
        [[moved]] = sight.predict((0, 1))[0]
        assert moved / 16 == pytest.approx(100 + std * deviations / 2, abs=1 / 16)


def test_a_step_shows_once_half_of_what_says_something_is_there():
    """A message's first bits, twice as many as its register has, say little by themselves."""
    little = 2 * Trellis(1000, 1000).memory
    assert little == 28
    plan = Plan(1000, (math.inf, 1.0, 0.0), ((0, 100 * 2**UNIT // 1000 + 1, 250 * 2**UNIT // 1000 + 1),) * TILTS, 0)
    allotment = Allotment(plan, MEAN, 2)
    first, second = allotment.sizes
    assert (first, second) == (106, 150)
    for begin, size, done in ((0, first, 0), (first, second, 1)):
        for n in range(size):
            assert allotment.reach(begin + n) == done + (n - little > (size - little) / 2)
    assert allotment.reach(first + second) == allotment.reach(1000) == 2


def test_the_overhead_is_the_whole_file_of_a_pixel():
    def encoder(array, quality):
        assert array.shape == (1, 1, 3)
        assert array.dtype == np.uint8
        return bytes(70 + quality) + array.tobytes()

    assert overhead(encoder, 5) == 78


class Stub:
    """A scheme whose zeta is so much of delta, by a message of so many bits."""

    def __init__(self, delta, along, bits):
        self.delta, self.along, self.bits = delta, along, bits

    def encode(self, delta):
        return bytes(self.bits)

    def decode(self, message):
        return self.along * self.delta

    def length(self, message):
        return len(message)


def test_efficiency_is_the_square_of_what_is_reached_over_the_bits():
    """(E <delta, zeta> / |delta|)^2 / (2 ln 2 bits), and its error that of the jackknife."""
    n, dims, kl = 200, 50, 12.0
    rng = np.random.default_rng(0)
    deltas = rng.standard_normal((n, dims))
    deltas *= math.sqrt(2 * math.log(2) * kl) / np.linalg.norm(deltas, axis=1, keepdims=True)
    along, bits = rng.normal(0.8, 0.1, n), rng.integers(8, 15, n)
    cases = [Case(delta, np.zeros(dims), 1.0) for delta in deltas]
    row = measure(Setting("stub", {}, lambda case, seed: Stub(case.delta, along[seed], int(bits[seed]))), cases)
    reached = along * np.linalg.norm(deltas, axis=1)

    def efficiency(these):
        return np.mean(reached[these]) ** 2 / (2 * math.log(2) * np.mean(bits[these]))

    assert row["efficiency"] == pytest.approx(efficiency(np.arange(n)), rel=1e-6)
    left = np.array([efficiency(np.delete(np.arange(n), i)) for i in range(n)])
    assert row["efficiency_stderr"] == pytest.approx(math.sqrt((n - 1) * np.var(left)), rel=0.02)
    assert row["std_along"] == pytest.approx(np.std(reached, ddof=1))


def sent(starved, mse, bits=100):
    """What a pass through the chain gave one picture."""
    stream = SimpleNamespace(kl=[starved * bits], bits=np.zeros(bits, np.uint8), mse=[mse])
    return Sent(stream, SimpleNamespace(corrections=b""))


def test_starved_pictures_are_coded_again_and_the_better_file_is_kept():
    """Free of the tables; of two files the closer, or the shorter that does."""
    sender = object.__new__(Sender)
    sender.channel, sender.cost = TrellisChannel, np.ones((5, 3))
    jobs = [Job(0), Job(1), Job(2, 900.0), Job(3, mse=10.0), Job(4, mse=10.0)]
    first = [sent(f, m) for f, m in zip((STARVED - 0.1, 2.0, 4.0, 2.0, 3.0), (50, 50, 50, 12, 9))]
    again = [sent(1.0, 40), sent(1.0, 60), sent(1.0, 9.5, 300), sent(1.0, 9.9, 80)]
    asked, answers = [], [first, again]
    sender.once = lambda jobs: asked.append(jobs) or answers.pop(0)
    found = sender.fed(jobs)
    assert [[(job.picture, job.budget, job.mse, job.free) for job in once] for once in asked] == [
        [(job.picture, job.budget, job.mse, False) for job in jobs],
        [(job.picture, job.budget, job.mse, True) for job in jobs[1:]],
    ]
    assert found == [first[0], again[0], first[2], again[2], again[3]]
    assert (sender.cost == 1).all()

    sender.channel, asked[:], answers[:] = IdealChannel, [], [first, []]
    assert sender.fed(jobs) == first
    assert not any(asked[1:])


@pytest.mark.parametrize("noisy", [False, True])
def test_the_net_of_an_archive_is_without_files_and_stored_pictures(model, noisy, monkeypatch):
    """What is left of its words after them is what its patches add, about their bound.

    The first pictures are files, as there is nothing yet to borrow, unless some are stored, as one of noise.
    """
    if not noisy:
        monkeypatch.setattr("codec.archive.archive._shorter", lambda *_: {})
    noise = np.random.default_rng(0).integers(0, 256, (16, 16, 3)).astype(np.uint8)
    pictures = [*(smooth_picture(16, 16, s) for s in range(12)), *[noise] * noisy]
    row = archive.measure(model, pictures, 6, draws=1, check=False)
    c = unpack(archive.create(archive.named_pictures(pictures), model, 6))
    n_bytes = [n for n, _ in c.kept.values()] if noisy else [-n for n in c.plan if n < 0]
    assert row["stored"] == len(n_bytes) > 0
    values = 768 * (len(pictures) - len(n_bytes))
    assert row["net"] * values == pytest.approx(8 * (4 * c.count - sum(n_bytes)))
    assert row["stored_bits"] * 768 * len(n_bytes) == pytest.approx(8 * sum(n_bytes))
    assert row["net"] == pytest.approx(row["bound"], abs=0.3)
