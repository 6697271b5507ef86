import numpy as np
import pytest
import torch

from codec.channel.simulation import IdealChannel
from codec.lossy import progressive
from codec.lossy.basis import Cosines
from codec.lossy.chain import Chain
from codec.lossy.plan import MEAN, Allotment, Profile
from codec.lossy.ratecontrol import Fixed
from codec.lossy.reconstruct import reconstruct, show
from codec.lossy.setting import Setting
from codec.lossy.tables import CodingTables
from ddpm.diffusion.gaussian import Step
from ddpm.diffusion.likelihood import to_unit
from tests.conftest import smooth_picture


def batch_of(*pictures):
    stacked = np.stack([p if p.ndim == 3 else np.repeat(p[..., None], 3, 2) for p in pictures])
    return torch.from_numpy(stacked).permute(0, 3, 1, 2)


def setting_of(model, size, **how):
    return Setting.of(model, CodingTables.of_model(model), size, **how)


def send(model, pictures, **how):
    setting = setting_of(model, pictures[0].shape[:2], **how)
    spending = [Fixed(setting.plan, MEAN, setting.plan.steps) for _ in pictures]
    return setting, progressive.encode(setting, batch_of(*pictures), spending)


@pytest.mark.parametrize("grey", [False, True])
@pytest.mark.parametrize("size", [(16, 16), (13, 21), (1, 1), (1, 30)])
def test_decoder_sees_what_the_encoder_measured(model, size, grey):
    pictures = [smooth_picture(*size, s, 1 if grey else 3) for s in range(2)]
    setting, streams = send(model, pictures, grey=grey)
    plan = setting.plan
    allotments = [Allotment(plan, MEAN, plan.steps)] * 2
    arrays = show(progressive.decode(setting, [s.bits for s in streams], allotments, plan.steps))
    for picture, array, stream in zip(pictures, arrays, streams):
        shown = array[..., 0] if grey else array
        mse = np.mean((shown.astype(float) - picture) ** 2)
        assert mse == pytest.approx(stream.mse[-1], rel=0.02, abs=0.05)
        assert len(stream.bits) == allotments[0].total


def test_more_bits_come_closer(model):
    setting, [stream] = send(model, [smooth_picture(16, 16)])
    assert stream.mse[-1] < 0.2 * stream.mse[0]
    assert len(stream.mse) == setting.plan.steps + 1 == len(stream.kl) + 1


def test_a_batch_gives_the_same_bits_as_one_by_one(model):
    """Up to rounding in the network: a path may differ where two are as good as equal, the length never."""
    pictures = [smooth_picture(16, 16, s) for s in range(3)]
    _, together = send(model, pictures)
    _, [alone] = send(model, pictures[1:2])
    assert len(alone.bits) == len(together[1].bits)
    assert alone.mse[-1] == pytest.approx(together[1].mse[-1], rel=0.2)


def test_images_of_a_batch_may_stop_at_different_steps(model):
    pictures = [smooth_picture(16, 16, s) for s in range(3)]
    setting = setting_of(model, (16, 16))
    plan = setting.plan
    profiles = [Profile(60, 2), MEAN, Profile(66, 7)]
    spending = [Fixed(plan, *choice) for choice in zip(profiles, [2, plan.steps, 5])]
    streams = progressive.encode(setting, batch_of(*pictures), spending)
    assert [len(s.kl) for s in streams] == [2, plan.steps, 5]
    for stream, profile, steps in zip(streams, profiles, [2, plan.steps, 5]):
        assert len(stream.bits) == plan.totals(profile)[steps]


def test_ideal_channel_hands_on_q(model, monkeypatch):
    """Its z at the end has the mean alpha x and the variance sigma^2 that q(z | x) has."""
    pictures = [smooth_picture(16, 16, 5)] * 32
    setting, seen, real = setting_of(model, (16, 16)), [], Chain.advance
    plan = setting.plan
    monkeypatch.setattr(Chain, "advance", lambda self, *how: (real(self, *how), seen.append(self.z.clone()))[0])
    spending = [Fixed(plan, MEAN, plan.steps) for _ in pictures]
    progressive.encode(setting, batch_of(*pictures), spending, channel=IdealChannel)
    step = Step(plan.gammas[-2], plan.gammas[-1])
    z = Cosines(setting.tables, (16, 16), grey=False).picture(seen[-1])
    error = z - step.alpha_s * to_unit(batch_of(*pictures))
    assert float(error.mean()) == pytest.approx(0, abs=4 * step.sigma_s / (32 * 768) ** 0.5)
    assert float(error.std()) == pytest.approx(step.sigma_s, rel=0.01)


def test_grey_code_sends_one_coordinate_a_pixel(model):
    chain = Chain(setting_of(model, (16, 16), grey=True), 1)
    chain.k = 3
    with torch.inference_mode():
        p = chain.predict()
        before, x_hat = chain.z.clone(), p.x_hat.clone()
        zeta = torch.randn(1, 256)
        chain.advance(p, zeta.clone)
    assert p.r.shape == (1, 256)
    step, hat = Step(p.step.gamma_t, p.step.gamma_s), chain.coordinates(x_hat)
    grey = (chain.z[:, :1] - step.mean(before[:, :1], hat)).flatten(1)
    torch.testing.assert_close(grey, step.std_q * (1 + p.r).sqrt() * zeta, atol=1e-4, rtol=1e-4)
    colour = chain.z[:, 1:] - step.z_coef * before[:, 1:]
    assert float(colour.std()) == pytest.approx(step.std_q, rel=0.1)


@pytest.mark.parametrize("recon", ["mean", "flow", "sample"])
def test_reconstructions(model, recon):
    picture = smooth_picture(16, 16)
    setting, [stream] = send(model, [picture])
    plan = setting.plan
    allotments = [Allotment(plan, MEAN, plan.steps)]
    decode = lambda: show(progressive.decode(setting, [stream.bits], allotments, plan.steps // 2), recon)  # noqa: E731
    assert np.array_equal(decode(), decode())
    assert decode().shape == (1, 16, 16, 3)


def test_reach_counts_a_step_that_is_mostly_there(model):
    plan = setting_of(model, (16, 16)).plan
    start, size = plan.totals(MEAN)[3], plan.bits(3, MEAN)
    reach = [Allotment(plan, MEAN, plan.steps).reach(start + n) for n in range(size + 1)]
    assert reach[0] == 3
    assert reach[-1] == 4
    assert reach == sorted(reach)


def test_seeds_change_the_stream(model):
    _, [one] = send(model, [smooth_picture(16, 16)], seed=0)
    _, [two] = send(model, [smooth_picture(16, 16)], seed=1)
    assert not np.array_equal(one.bits, two.bits)


def test_the_mirrored_picture_is_seen_as_the_mirror_of_the_picture(model):
    """What is shown does not depend on the side from which z is seen."""
    setting, [stream] = send(model, [smooth_picture(13, 21)])
    allotments = [Allotment(setting.plan, MEAN, setting.plan.steps)]
    chain = progressive.decode(setting, [stream.bits], allotments, 12)
    plain, shown = chain.denoise()[0], chain.mean()
    chain.z = chain.basis.coordinates(chain.seen().flip(3))
    torch.testing.assert_close(chain.mean(), shown.flip(3), atol=1e-3, rtol=1e-3)
    assert not torch.allclose(shown, plain, atol=1e-4)
    with pytest.raises(ValueError, match="unknown"):
        reconstruct(chain, "sharp")
