"""Models as diffusers saves them, against diffusers itself; networks of the paper's sizes with random weights."""

import json
import sys

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file, save_file

from codec import Codec, Target, decode
from codec.cli.app import cli
from codec.errors import CodecError, UnknownModel
from codec.images.pictures import png_bytes
from ddpm.diffusion.gaussian import Step
from ddpm.diffusion.reverse import Reverse
from ddpm.diffusion.schedule import Discrete, LinearBeta
from ddpm.models.load import load_model
from ddpm.models.pretrained import STEM, TABLES
from tests.conftest import smooth_picture

diffusers = pytest.importorskip("diffusers")

TINY = {
    "sample_size": 16,
    "block_out_channels": (16, 32),
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
    "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
    "layers_per_block": 1,
    "norm_num_groups": 8,
    "attention_head_dim": None,
}
PAPER = {"layers_per_block": 2, "norm_eps": 1e-6, "flip_sin_to_cos": False, "freq_shift": 1, "downsample_padding": 0}
PAPER |= {"attention_head_dim": None}


def levels_with_attention(n, at):
    """Block types of n levels, attention at level ``at`` counted from the finest."""
    names = ["Attn" if i == at else "" for i in range(n)]
    return {
        "down_block_types": tuple(a + "DownBlock2D" for a in names),
        "up_block_types": tuple(a + "UpBlock2D" for a in names[::-1]),
    }


CIFAR = {**PAPER, **levels_with_attention(4, 1), "block_out_channels": (128, 256, 256, 256), "sample_size": 32}
CHURCH = {**PAPER, **levels_with_attention(6, 4), "block_out_channels": (128, 128, 256, 256, 512, 512)}
CHURCH |= {"sample_size": 256}


def save(folder, config=None, unet="", scheduler="", **settings):
    """A random network and a scheduler in ``folder``; the network, in evaluation."""
    torch.manual_seed(0)
    net = diffusers.UNet2DModel(**(TINY if config is None else config)).eval()
    net.save_pretrained(folder / unet)
    diffusers.DDPMScheduler(**settings).save_pretrained(folder / scheduler)
    return net


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny model with coding tables, made by the command line."""
    folder = tmp_path_factory.mktemp("pretrained") / "tiny"
    save(folder)
    pictures = folder.parent / "pictures"
    pictures.mkdir()
    for i in range(4):
        (pictures / f"{i}.png").write_bytes(png_bytes(smooth_picture(16, 16, i)))
    small = ["--steps", "24", "--memory", "8", "--min-bits", "12", "--device", "cpu", "--quiet"]
    done = CliRunner().invoke(cli, ["calibrate", str(folder), str(pictures), *small], catch_exceptions=False)
    assert done.exit_code == 0
    return folder


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


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (17, 23)])
def test_any_size_and_gamma(folder, size):
    model = load_model(str(folder))
    gamma = torch.tensor([model.schedule.gamma_max, 0.1234, model.schedule.gamma_min - 3])
    with torch.inference_mode():
        eps_hat, log_m = model(torch.randn(3, 3, *size), gamma)
    assert eps_hat.shape == log_m.shape == (3, 3, *size)
    assert torch.isfinite(eps_hat).all()
    assert torch.isfinite(log_m).all()


@pytest.mark.parametrize("shape", [(16, 16), (13, 22)])
@pytest.mark.parametrize("channels", [3, 1])
def test_encode_and_decode(folder, shape, channels):
    picture = smooth_picture(*shape, 9, channels)
    [file] = Codec(str(folder), "cpu").encode([picture], Target(bits_per_dim=3.0))
    whole = decode(file.data, model=str(folder), device="cpu")
    assert whole.complete
    assert whole.array.shape == picture.shape
    assert np.mean((whole.array.astype(float) - picture) ** 2) == pytest.approx(file.mse)
    assert file.mse < np.var(picture.astype(float))
    for n in range(14, len(file.data), max(1, len(file.data) // 5)):
        part = decode(file.data[:n], model=str(folder), device="cpu")
        assert part.array.shape == picture.shape
        assert part.steps <= whole.steps


def test_a_model_in_memory_and_the_native_size(folder):
    codec = Codec(load_model(str(folder)))
    files = codec.encode([smooth_picture(16, 16)], Target(bytes=200)) + codec.encode(
        [smooth_picture(16, 17)], Target(bytes=200)
    )
    assert [codec.open(f.data).info.header_bytes for f in files] == [6, 8]


def test_fingerprint_covers_tables_weights_and_schedule(folder, tmp_path):
    prints = {load_model(str(folder)).fingerprint}
    save(tmp_path)
    prints.add(load_model(str(tmp_path)).fingerprint)
    (tmp_path / TABLES).write_text((folder / TABLES).read_text())
    assert load_model(str(tmp_path)).fingerprint == load_model(str(folder)).fingerprint
    save(tmp_path, beta_end=0.03)
    prints.add(load_model(str(tmp_path)).fingerprint)
    net = save(tmp_path)
    net.conv_in.bias.data += 1
    net.save_pretrained(tmp_path)
    prints.add(load_model(str(tmp_path)).fingerprint)
    assert len(prints) == 4


def test_without_tables_nothing_is_coded(tmp_path):
    save(tmp_path)
    with pytest.raises(CodecError, match="no coding tables; calibrate it first"):
        Codec(str(tmp_path), "cpu")


def test_where_calibrate_writes(folder, models):
    def run(*arguments):
        with pytest.raises(CodecError) as caught:
            CliRunner().invoke(cli, ["calibrate", *map(str, arguments)], catch_exceptions=False)
        return str(caught.value)

    assert "leave -o out" in run(folder, folder.parent / "pictures", "-o", "x")
    assert "say with -o" in run("tiny-1", folder.parent / "pictures")
    assert sorted(p.name for p in folder.iterdir()) == [
        "config.json",
        TABLES,
        STEM + ".safetensors",
        "scheduler_config.json",
    ]


def change(path, **values):
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def pickled(folder):
    (folder / (STEM + ".safetensors")).rename(folder / (STEM + ".bin"))


def halved(folder):
    path = folder / (STEM + ".safetensors")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def renamed(folder):
    path = folder / (STEM + ".safetensors")
    save_file({"x" + k: v for k, v in load_file(path).items()}, path)


CONFIG = [
    ({"out_channels": 6}, "learned variances"),
    ({"in_channels": 1}, "in_channels 1"),
    ({"block_out_channels": [32, 32]}, "do not agree"),
    ({"block_out_channels": [2**40, 2**40]}, "block_out_channels"),
    ({"block_out_channels": "many"}, "block_out_channels"),
    ({"layers_per_block": 10**9}, "layers_per_block"),
    ({"down_block_types": ["DownBlock2D", "os.system"]}, "os.system"),
    ({"norm_num_groups": 7}, "config.json"),
    ({"attention_head_dim": 0}, "config.json"),
    ({"class_embed_type": "timestep"}, "class_embed_type"),
    ({"time_embedding_type": "fourier"}, "time_embedding_type"),
    ({"_class_name": "UNet3DModel"}, "UNet3DModel"),
]
SCHEDULER = [
    ({"variance_type": "learned_range"}, "learned_range"),
    ({"beta_schedule": "?"}, "unknown beta schedule"),
    ({"beta_end": 2.0}, "between 0 and 1"),
    ({"beta_start": "x"}, "could not convert"),
    ({"num_train_timesteps": 10**12}, "num_train_timesteps"),
    ({"prediction_type": "?"}, "prediction_type"),
    ({"rescale_betas_zero_snr": True}, "rescale_betas_zero_snr"),
    ({"trained_betas": 3}, "not a model"),
    ({"_class_name": "ScoreSdeVeScheduler"}, "ScoreSdeVeScheduler"),
]
DAMAGE = [
    (pickled, "safe_serialization=True"),
    (halved, "not a model"),
    (renamed, "do not agree"),
    (lambda f: (f / (STEM + ".safetensors")).unlink(), f"no {STEM}.safetensors"),
    (lambda f: (f / "config.json").unlink(), "no config.json"),
    (lambda f: (f / "config.json").write_text("{"), "config.json"),
    (lambda f: (f / "config.json").write_bytes(b"\xff\xfe"), "config.json"),
    (lambda f: (f / "scheduler_config.json").unlink(), "no scheduler_config.json"),
    (lambda f: (f / "scheduler_config.json").write_text("[]"), "scheduler_config.json"),
    (lambda f: (f / TABLES).write_text("{"), TABLES),
]
DAMAGE += [(lambda f, v=v: change(f / "config.json", **v), words) for v, words in CONFIG]
DAMAGE += [(lambda f, v=v: change(f / "scheduler_config.json", **v), words) for v, words in SCHEDULER]


@pytest.mark.parametrize(("damage", "words"), DAMAGE, ids=[words for _, words in DAMAGE])
def test_what_is_refused_in_one_line(tmp_path, damage, words):
    save(tmp_path)
    damage(tmp_path)
    with pytest.raises(UnknownModel) as caught:
        load_model(str(tmp_path))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_pickle_by_itself(tmp_path):
    (tmp_path / "model.ckpt").write_bytes(b"")
    with pytest.raises(UnknownModel, match="convert"):
        load_model(str(tmp_path / "model.ckpt"))


def test_without_the_extra(tmp_path, monkeypatch):
    save(tmp_path)
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(UnknownModel, match=r"pip install 'ddpm-codec\[diffusers\]'"):
        load_model(str(tmp_path))


def test_a_folder_by_another_way(folder, monkeypatch):
    monkeypatch.chdir(folder)
    assert load_model(".").name == "tiny"
    assert load_model(str(folder) + "/").name == "tiny"
    with pytest.raises(UnknownModel, match="no model"):
        load_model("..")
