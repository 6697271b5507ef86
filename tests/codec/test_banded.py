"""Files of models with noise by frequency: all that files of others do, and nothing of bands that are not there."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from codec import Codec, CodecError, Target, decode
from codec.api import inspect
from codec.archive.bitsback import Stack, bitsback_for
from codec.archive.gaussians import Gaussians
from codec.archive.patches import CODE
from codec.channel.simulation import IdealChannel
from codec.lossy import progressive
from codec.lossy.basis import Cosines
from codec.lossy.chain import Chain
from codec.lossy.denoise import denoise
from codec.lossy.plan import MEAN, Allotment
from codec.lossy.ratecontrol import Oracle
from codec.lossy.setting import Setting
from codec.lossy.tables import CodingTables
from codec.terms import CodeTerms
from ddpm.diffusion.bands import BANDS, EVEN, RINGS, Bands
from ddpm.diffusion.bound import bound
from ddpm.diffusion.gaussian import kl_nats
from ddpm.diffusion.noise import Noise
from ddpm.diffusion.process import process_of
from ddpm.training.presets import PRESETS
from tests.conftest import made_once, random_model, smooth_picture

SMALL = PRESETS["tiny"]["model"]["network"] | {"blocks": [0, 0]}


def late() -> dict:
    """Of each colour the lowest rings first, the others later, the finest of two colours last."""
    ring, colour = np.arange(BANDS) % RINGS, np.arange(BANDS) // RINGS
    nodes = [5.5, 2.0, -1.0, -4.0, -9.2]
    ratios = np.ones((5, BANDS))
    ratios[:3] = [1.2 * (ring <= 1), 1.1 * (ring <= 3), 0.9 * (ring <= 7 - 2 * colour)]
    ratios[3] = 0.8 * (ring <= 9 - colour)
    variance = np.geomspace(20, 0.01, RINGS)[ring]
    how = {"kind": "bands", "nodes": nodes, "ratios": ratios.tolist(), "variance": variance.tolist()}
    return how | {"block": 8, "sharpness": 0.15}


def even() -> dict:
    how = {"kind": "bands", "nodes": [5.5, -9.2], "ratios": [[1.0] * BANDS] * 2, "variance": [1.0] * BANDS}
    return how | {"block": 8}


def banded(folder):
    random_model(folder / "banded", SMALL, schedule=late())
    random_model(folder / "even", SMALL, schedule=even())
    random_model(folder / "plain", SMALL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return made_once(banded, tmp_path_factory)


@pytest.fixture(scope="module")
def banded_codec(folder):
    return Codec(str(folder / "banded"))


def test_what_is_encoded_is_decoded(banded_codec):
    """Lossy and lossless, in colour and grey, of sizes that are no whole blocks; every byte of the picture."""
    for picture in (smooth_picture(21, 30), smooth_picture(21, 30, channels=1), smooth_picture(3, 1)):
        file = banded_codec.encode(picture, Target(steps=9), store=False)
        shown = banded_codec.decode(file.data)
        assert np.mean((shown.array.astype(float) - picture) ** 2) == pytest.approx(file.mse)
        lossless = banded_codec.encode(picture, Target(lossless=True), store=False)
        assert lossless.mode == "lossless"
        assert np.array_equal(banded_codec.decode(lossless.data).array, picture)
        for recon in ("flow", "sample"):
            shape = banded_codec.decode(file.data, recon=recon).array.shape
            assert shape == picture.shape
        small = banded_codec.decode(file.data, max_size=15).array
        assert max(small.shape[:2]) <= 15


def test_every_beginning_shows_a_picture(banded_codec):
    data = banded_codec.encode(smooth_picture(24, 24), Target(lossless=True), store=False).data
    steps = [banded_codec.decode(data[:n]).steps for n in range(10, len(data), 60)]
    assert steps == sorted(steps)
    assert steps[0] < steps[-1]


def test_equal_bands_are_the_code_of_isotropic_noise(folder):
    """To the last bit of the message, tables and all."""
    picture = smooth_picture(20, 24)
    codecs = [Codec(str(folder / name)) for name in ("even", "plain")]
    files = [codec.encode(picture, Target(bits_per_dim=1), store=False) for codec in codecs]
    opened = [codec.open(file.data) for codec, file in zip(codecs, files)]
    assert opened[0].messages == opened[1].messages
    assert opened[0].allotment.sizes == opened[1].allotment.sizes
    assert files[0].mse == files[1].mse


def test_of_bands_that_are_not_there_nothing_is_sent_and_nothing_moves(banded_codec):
    setting = banded_codec.setting((24, 32))
    chain, basis = Chain(setting, 1), Cosines(setting.tables, (24, 32), False)
    first = chain.z.clone()
    with torch.inference_mode():
        for k in range(4):
            present = setting.tables.noise.snr(setting.plan.gammas[k + 1])[basis.band.long()] > 0
            p = chain.predict()
            assert p.r.shape == (1, setting.plan.room(k)) == (1, present.sum())
            chain.advance(p, lambda p=p: torch.zeros_like(p.r))
            assert torch.equal(chain.z[0][~torch.from_numpy(present)], first[0][~torch.from_numpy(present)])
            assert (chain.z[0] != first[0])[torch.from_numpy(present)].all()
    assert setting.plan.coded == tuple(sorted(setting.plan.coded))
    assert setting.plan.coded[0] == 0
    assert setting.plan.coded[-1] == setting.plan.dims


def test_messages_have_no_more_bits_than_dimensions_have_signal(banded_codec):
    """Even where all are as long as a file can say."""
    plan = banded_codec.plan(24, 32, False)
    corrections = bytes([255]) * plan.steps
    allotment = Allotment(plan, type(MEAN)(0, 0), plan.steps, corrections)
    assert all(n <= plan.room(k) for k, n in enumerate(allotment.sizes))
    assert allotment.sizes[0] == plan.room(0)


def test_the_terms_of_the_code_are_those_of_its_process(banded_codec):
    """KL of a step from z_t ~ q(z_t | x) by the process of ddpm/diffusion with the variances of the tables."""
    x = torch.from_numpy(np.stack([smooth_picture(16, 24, s) for s in range(2)])).permute(0, 3, 1, 2) / 127.5 - 1
    setting = banded_codec.setting((16, 24))
    terms, process = CodeTerms(setting), process_of(banded_codec.model.schedule)
    eps = Noise(0, [0, 1], x.shape[1:]).draw("cpu")
    for k in range(1, terms.levels, 3):
        step = process.over(process.step(*setting.plan.gammas[k : k + 2]), x)
        kl, x_hat = terms.term(k, x, eps)
        error = process.coordinates(x) - process.coordinates(x_hat)
        delta2 = (step.x_coef / step.std_q * error) ** 2
        z = step.alpha_t * process.coordinates(x) + step.sigma_t * eps
        seen = process.seen(step, z)
        assert torch.allclose(terms.basis.seen(terms.steps[k], x, eps), seen, atol=1e-4)
        level, m = setting.plan.stops[k], denoise(terms.model, terms.tables, setting.plan.stops[k], seen)[1]
        bands = np.array(terms.tables.colour.bands[level])[terms.basis.band.long()]
        powers = np.array(terms.tables.colour.powers[level])[terms.basis.band.long()]
        of_blocks = m.numpy().mean(1).reshape(2, 1, 2, 8, 3, 8).mean((3, 5)).repeat(8, 2).repeat(8, 3)
        gain = (setting.tables.noise.snr(step.gamma_s) - setting.tables.noise.snr(step.gamma_t)) * np.exp(step.gamma_t)
        r = gain[terms.basis.band.long()] * bands * of_blocks**powers
        wanted = kl_nats(delta2.double().numpy(), r).reshape(2, -1).mean(1)
        assert np.allclose(kl, wanted, rtol=1e-3)
        assert np.allclose(x_hat, process.pixels(process.coordinates(x_hat)), atol=1e-5)


def test_chains_of_an_ideal_channel_cost_what_the_terms_say(banded_codec):
    """Sum of KL along chains, and the mean of the terms at z_t ~ q(z_t | x): by the theorem the same on average."""
    pictures = torch.from_numpy(np.stack([smooth_picture(16, 16, 3)] * 48)).permute(0, 3, 1, 2)
    setting = banded_codec.setting((16, 16))
    spending = [Oracle(setting.plan, 1.0) for _ in pictures]
    streams = progressive.encode(setting, pictures, spending, channel=IdealChannel)
    walked = np.mean([sum(s.kl) for s in streams])
    terms = CodeTerms(setting)
    x = pictures / 127.5 - 1
    noise = Noise(1, range(len(x)), x.shape[1:])
    drawn = [terms.term(k, x, noise.draw("cpu"))[0].double().mean() for k in range(terms.levels)]
    assert walked == pytest.approx(float(sum(drawn)) / np.log(2) * setting.plan.dims, rel=0.03)


def test_tables_of_another_schedule_are_refused(banded_codec, folder):
    model = banded_codec.model
    tables = CodingTables.of_model(model)
    assert isinstance(tables.noise, Bands)
    assert CodingTables.of_model(Codec(str(folder / "plain")).model).noise is EVEN
    for change in ({"block": 16}, {"levels": (*tables.levels[:-1], -9.0)}, {"levels": (7.0, *tables.levels[1:])}):
        card = {**model.card, "coding": replace(tables, **change).to_card()}
        other = type(model)(model.config, model.net, model.stride).identified("other", card, b"")
        with pytest.raises(CodecError, match="another schedule"):
            CodingTables.of_model(other)


def test_files_say_what_they_are(banded_codec, folder):
    data = banded_codec.encode(smooth_picture(20, 20), Target(bits_per_dim=1), store=False).data
    assert inspect(data, model=str(folder / "banded")).steps > 3
    assert decode(data, model=str(folder / "banded")).complete


def test_settings_carry_the_noise(banded_codec):
    setting = Setting.of(banded_codec.model, banded_codec.tables, (8, 8), stride=2)
    assert setting.plan.coded[-1] == 192


@pytest.mark.parametrize("grey", [False, True])
def test_an_archive_has_the_length_of_the_bound(banded_codec, grey):
    """Along the steps of the code; latents are those of bands that are there, and come back."""
    model, x = banded_codec.model, np.stack([smooth_picture(16, 16, s, 1 if grey else 3) for s in range(16)])
    x = x[:, None] if grey else x.transpose(0, 3, 1, 2)
    coder = bitsback_for(model, CODE)((16, 16, x.shape[1]))
    stack = Stack(Gaussians(24), np.random.default_rng(0).integers(1, 1 << 32, 20_000, dtype=np.uint32))
    before, bits = stack.words(), stack.bits
    cost = coder.push(stack, x)
    grown = stack.bits - bits
    assert cost.sum() == pytest.approx(grown, rel=1e-3)
    setting = replace(banded_codec.setting((16, 16), grey), plan=coder.latents.plan)
    limit = bound(CodeTerms(setting), [torch.from_numpy(np.repeat(x, 3, 1) if grey else x)], quiet=True)
    assert grown / x.size == pytest.approx(limit.total, rel=0.02)
    assert len(coder.latents.places[0].band) < len(coder.latents.places[-1].band) == x[0].size
    assert np.array_equal(coder.pop(stack, x.shape), x)
    assert np.array_equal(stack.words(), before)


def test_archives_by_levels_of_the_schedule_are_refused_in_a_line(banded_codec):
    with pytest.raises(CodecError, match="steps of the lossy code"):
        bitsback_for(banded_codec.model, 10)
