import json
import sys
from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image

from codec.cli.app import main
from codec.images.pictures import png_bytes
from ddpm.diffusion.gaussian import Step
from ddpm.diffusion.noise import Noise
from ddpm.diffusion.reverse import Reverse
from ddpm.diffusion.sample import decode, encode_to, generate, interpolate, position, shared, walk
from ddpm.diffusion.schedule import Cosine, LinearBeta, LinearGamma, alpha_sigma
from ddpm.images.sheets import tiled
from tests.conftest import smooth_picture

MU, S = 0.2, 0.3
SHAPE = (1, 4, 4)


class GaussianModel(torch.nn.Module):
    """The optimal model of pictures whose pixels are independent N(MU, S^2)."""

    def __init__(self, schedule):
        super().__init__()
        self.schedule = schedule

    def forward(self, z, gamma):
        gamma = gamma.to(z)[:, None, None, None]
        alpha2, sigma2 = torch.sigmoid(-gamma), torch.sigmoid(gamma)
        power = alpha2 * S**2 + sigma2
        eps_hat = sigma2.sqrt() * (z - alpha2.sqrt() * MU) / power
        return eps_hat, (alpha2 * S**2 / power).log().expand_as(z)


def process(variance="learned", clip=False):
    return Reverse(GaussianModel(LinearGamma(12.0, -12.0)), variance, clip)


def images(reverse, steps, number, seed=0, shape=SHAPE, **how):
    gammas = reverse.levels(steps)
    return torch.cat(list(generate(reverse, gammas, shape, seed, range(number), **how)))[:, 0]


@pytest.mark.parametrize(("variance", "steps"), [("learned", 4), ("learned", 100), ("beta", 400), ("beta-tilde", 400)])
def test_ancestral_samples_have_the_moments_of_the_data(variance, steps):
    x = images(process(variance), steps, 8, shape=(1, 64, 64))
    assert float(x.mean()) == pytest.approx(MU, abs=4 * S / x.numel() ** 0.5)
    bias = 0 if variance == "learned" else 0.02  # of a chain of finite length; none if the variance is p's own
    assert float(x.std()) == pytest.approx(S, rel=bias + 4 / (2 * x.numel()) ** 0.5)


def test_the_paper_s_variances_err_on_either_side():
    low, right, high = (images(process(v), 30, 8, shape=(1, 64, 64)).std() for v in ("beta-tilde", "learned", "beta"))
    assert low < 0.97 * right < right < high / 1.03


@pytest.mark.parametrize("variance", ["learned", "beta", "beta-tilde"])
@pytest.mark.parametrize(("gamma_t", "gamma_s"), list(pairwise(np.linspace(9, -9, 7).tolist())))
def test_a_step_is_a_draw_from_p(variance, gamma_t, gamma_s):
    """Mean and variance against the joint Gaussian of z_s and z_t (learned), of q(z_t | z_s), of q(z_s | z_t, x)."""
    (alpha_t, alpha_s), (sigma_t, sigma_s) = alpha_sigma([gamma_t, gamma_s])
    z_t = torch.linspace(-2, 2, 5, dtype=torch.float64).view(5, 1, 1, 1)
    noise = Noise(3, range(5), (1, 1, 1))
    z_s = list(walk(process(variance), z_t, [gamma_t, gamma_s], noise))[-1].z
    ratio, v_t, v_s = alpha_t / alpha_s, alpha_t**2 * S**2 + sigma_t**2, alpha_s**2 * S**2 + sigma_s**2
    mean = alpha_s * MU + ratio * v_s / v_t * (z_t - alpha_t * MU)
    kernel = sigma_t**2 - ratio**2 * sigma_s**2
    expected = {
        "learned": v_s - ratio**2 * v_s**2 / v_t,
        "beta": kernel,
        "beta-tilde": 1 / (1 / sigma_s**2 + ratio**2 / kernel),
    }
    eps = Noise(3, range(5), (1, 1, 1)).draw()
    assert torch.allclose(z_s, mean + expected[variance] ** 0.5 * eps, rtol=1e-6, atol=1e-6)


def test_flow_is_the_map_of_one_gaussian_to_the_other():
    reverse = process()
    z_T = torch.linspace(-3, 3, 7, dtype=torch.float64).view(7, 1, 1, 1)
    errors = []
    for steps in (125, 250, 500, 1000):
        *_, last = walk(reverse, z_T, reverse.levels(steps))
        errors.append(float((last.x_hat - MU - S * z_T).abs().max()))
    assert errors[-1] < 0.01
    assert all(1.7 < coarse / fine < 2.3 for coarse, fine in pairwise(errors))  # a method of first order


def test_flow_and_ancestral_see_the_same_in_the_end():
    x = images(process(), 200, 8, shape=(1, 64, 64), method="flow")
    assert float(x.mean()) == pytest.approx(MU, abs=0.01)
    assert float(x.std()) == pytest.approx(S, rel=0.03)


@pytest.mark.parametrize("method", ["ancestral", "flow"])
def test_an_image_depends_on_seed_and_number_alone(method):
    reverse = process()
    one = images(reverse, 12, 7, seed=5, method=method, batch=7)
    assert torch.equal(one, images(reverse, 12, 7, seed=5, method=method, batch=3))
    assert torch.equal(one[:2], images(reverse, 12, 2, seed=5, method=method, batch=1))
    assert not torch.isclose(one, images(reverse, 12, 7, seed=6, method=method)).any()
    assert len(one.flatten(1).unique(dim=0)) == 7


def test_clipping_keeps_what_is_seen_in_the_range_of_pictures():
    reverse = Reverse(GaussianModel(LinearGamma(5.5, -9.2)), clip=True)
    z_T, gammas = (
        6 * torch.randn(50, *SHAPE, generator=torch.Generator().manual_seed(0)),
        Reverse(GaussianModel(LinearGamma())).levels(10),
    )
    for noise in (lambda: Noise(0, range(50), SHAPE), lambda: None):
        cut = list(walk(reverse, z_T, gammas, noise()))
        free = list(walk(Reverse(reverse.model, clip=False), z_T, gammas, noise()))
        assert len(cut) == len(free) == 10
        assert [m.gamma for m in cut] == gammas.tolist()
        assert max(float(m.x_hat.abs().max()) for m in cut) == 1
        assert max(float(m.x_hat.abs().max()) for m in free) > 1


def test_levels_and_positions():
    levels = lambda schedule, steps: Reverse(GaussianModel(schedule)).levels(steps)  # noqa: E731
    assert levels(LinearBeta(), 1000).tolist() == LinearBeta().all_gammas().tolist()
    assert levels(LinearGamma(), 2).tolist() == [5.5, -9.2]
    assert (np.diff(levels(Cosine(), 1000)) < 0).all()
    for schedule, steps in ((LinearGamma(), 1), (LinearBeta(), 1001)):
        with pytest.raises(ValueError, match="chain"):
            levels(schedule, steps)
    assert [position(range(11), at) for at in (1, 0.7, 0)] == [0, 3, 10]


def test_keep_gives_x_hat_over_time():
    reverse = process()
    gammas, noise = reverse.levels(9), Noise(1, range(3), SHAPE)
    calls = []
    kept = decode(reverse, noise.draw(), gammas, noise, keep=[0, 4, -1], batch=2, progress=calls.append)
    assert kept.shape == (3, 3, *SHAPE)
    assert calls == [2] * 9 + [1] * 9
    noise = Noise(1, range(3), SHAPE)
    moments = list(walk(reverse, noise.draw(), gammas, noise))
    assert torch.allclose(kept, torch.stack([moments[k].x_hat for k in (0, 4, 8)], 1))


def test_what_starts_from_one_latent_resembles_it_the_more_the_less_noise_is_left():
    reverse = process()
    gammas = reverse.levels(25)
    rows = shared(reverse, gammas, SHAPE, 2, [1, 0.5, 0.25, 0], number=40, batch=16)
    assert rows.shape == (4, 41, *SHAPE)
    spread = rows[:, 1:].std(1).mean((1, 2, 3))
    assert float(spread[0]) == pytest.approx(S, rel=0.1)
    for k in (1, 2):  # the spread of x given z_t is known
        gamma = gammas[position(gammas, [0.5, 0.25][k - 1])]
        assert float(spread[k]) == pytest.approx((1 / (1 / S**2 + np.exp(-gamma))) ** 0.5, rel=0.15)
    assert float(spread[3]) == 0
    assert torch.equal(rows[0, 0], Noise(2, [0], SHAPE).draw()[0])  # at = 1: z_T itself


@pytest.mark.parametrize("method", ["ancestral", "flow"])
def test_interpolation_begins_and_ends_with_the_two_pictures(method):
    reverse = process()
    gammas, at = reverse.levels(15), [0.8, 0.2]
    pair = MU + S * torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(1))
    rows = interpolate(reverse, gammas, pair, 4, at, weights=[0, 0.5, 1], method=method, batch=2)
    assert rows.shape == (2, 3, *SHAPE)
    for row, k in zip(rows, [position(gammas, a) for a in at]):
        for x, shown in zip(pair, (row[0], row[2])):
            noise = Noise(4, [0], SHAPE)
            z = encode_to(reverse, x[None], gammas[k], noise.draw())
            plain = decode(reverse, z, gammas[k:], noise, method=method)[0, 0]
            assert torch.allclose(shown, plain, atol=1e-6)
        assert torch.allclose(row[1], (row[0] + row[2]) / 2, atol=1e-5)  # this model is linear
    assert (rows[1, ::2] - pair).abs().mean() < 0.2 * (rows[0, ::2] - pair).abs().mean()


def test_encode_to_is_q():
    eps = torch.randn(4, *SHAPE)
    z = encode_to(process(), torch.full((4, *SHAPE), 0.5), 1.3, eps)
    step = Step(1.3, 0)
    assert torch.allclose(step.x_hat(z, eps), torch.tensor(0.5), atol=1e-6)


def test_tiles():
    sheet = tiled([np.full((2, 3, 3), i, np.uint8) for i in range(5)], columns=3, gap=1)
    assert sheet.shape == (2 * 3 + 1, 3 * 4 + 1, 3)
    assert sheet[1:3, 5:8].max() == sheet[1:3, 5:8].min() == 1
    assert sheet[4:6, 1:4].max() == 3
    assert sheet[4:6, 9:12].min() == sheet[0].min() == 255


@pytest.fixture
def run(models, tmp_path, monkeypatch, capsysbinary):
    """The command line on a folder of its own, in this process; what it printed, as (out, err)."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments, code=0):
        words = ["ddpm-codec", "sample", "--model", "tiny", "--steps", "6", *map(str, arguments)]
        monkeypatch.setattr(sys, "argv", words)
        capsysbinary.readouterr()
        try:
            main()
            left = 0
        except SystemExit as e:
            left = e.code
        done = capsysbinary.readouterr()
        assert left == code, done.err.decode()
        return done

    return call


def test_grid_of_a_seed(run, tmp_path):
    [row] = json.loads(run("-n", 5, "--json").out)
    assert row["file"] == "grid.png"
    assert (row["pictures"], row["rows"], row["columns"]) == (5, 2, 3)
    assert (row["model"], row["variance"], row["steps"], row["seed"]) == ("tiny-1", "learned", 6, 0)
    sheet = np.asarray(Image.open(tmp_path / "grid.png"))
    assert sheet.shape == (2 * 18 + 2, 3 * 18 + 2, 3)  # native is 16
    rows = json.loads(run("-n", 3, "-o", "apart/", "--json").out)
    assert [r["file"] for r in rows] == [f"apart/{i:05d}.png" for i in range(3)]
    for i, r in enumerate(rows):
        alone = np.asarray(Image.open(tmp_path / r["file"])).astype(int)
        x = 2 + 18 * i
        assert np.abs(alone - sheet[2:18, x : x + 16]).max() <= 1  # the same picture in a batch of another size


@pytest.mark.parametrize(
    ("arguments", "size", "cells"),
    [
        (["--figure", "progressive", "-n", "2", "--at", "1", "--at", "0.5", "--at", "0"], (20, 12), (2, 3)),
        (["--figure", "progressive", "-n", "1", "--method", "flow"], (20, 12), (1, 11)),
        (["--figure", "shared", "-n", "2", "--at", "0.5", "--at", "0", "--variance", "beta"], (20, 12), (2, 3)),
    ],
)
def test_figures(run, tmp_path, arguments, size, cells):
    done = run(*arguments, "--size", f"{size[0]}x{size[1]}", "-o", "f.png")
    assert done.out.startswith(b"f.png: ")
    (width, height), (rows, columns) = size, cells
    assert Image.open(tmp_path / "f.png").size == (columns * (width + 2) + 2, rows * (height + 2) + 2)


def test_interpolation_shows_its_pictures(run, tmp_path):
    pictures = [smooth_picture(12, 20), smooth_picture(12, 20, 1, 1)]
    for name, picture in zip("ab", pictures):
        (tmp_path / f"{name}.png").write_bytes(png_bytes(picture))
    two = ["--image", "a.png", "--image", "b.png"]
    rows = json.loads(run("--figure", "interpolate", *two, "-n", 3, "--at", 0.5, "-o", "i/", "--json").out)
    assert [(r["row"], r["column"]) for r in rows] == [(0, k) for k in range(5)]
    assert (np.asarray(Image.open(tmp_path / "i/000-000.png")) == pictures[0]).all()
    assert (np.asarray(Image.open(tmp_path / "i/000-004.png")) == pictures[1][..., None]).all()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--model", "none"], "no model"),
        (["--size", "0x4"], "not a size"),
        (["--size", "9999x9999"], "pixels; at most"),
        (["--steps", "1"], "--steps"),
        (["--seed", "-1"], "--seed"),
        (["--at", "0.5"], "--at is for the others"),
        (["--figure", "shared", "--method", "flow"], "one picture"),
        (["--figure", "interpolate"], "two pictures"),
        (["--image", "a.png", "--image", "a.png"], "two pictures"),
        (["--figure", "interpolate", "--image", "a.png", "--image", "none.png"], "No such file"),
        (["--figure", "interpolate", "--image", "a.png", "--image", "b.png"], "one size"),
        (["--figure", "interpolate", "--image", "a.png", "--image", "a.png", "-n", "1"], "at least two"),
        (["--figure", "interpolate", "--image", "a.png", "--image", "a.png", "--size", "8"], "--size"),
        (["-o", "-", "--json"], "standard output"),
        (["-o", "there/", "-n", "1"], "exists"),
        (["--device", "cuda"], "no CUDA device"),
    ],
)
def test_one_line_and_exit_code_2(run, tmp_path, monkeypatch, arguments, words):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for name, height in (("a", 8), ("b", 9)):
        (tmp_path / f"{name}.png").write_bytes(png_bytes(smooth_picture(height, 8)))
    (tmp_path / "there").mkdir()
    (tmp_path / "there/00000.png").write_bytes(b"kept")
    before = sorted(p.name for p in tmp_path.iterdir())
    done = run(*arguments, code=2)
    [line] = done.err.decode().strip().splitlines()
    assert line.startswith("error: ")
    assert words in line
    assert done.out == b""
    assert sorted(p.name for p in tmp_path.iterdir()) == before
    assert (tmp_path / "there/00000.png").read_bytes() == b"kept"


def test_existing_files_and_pipes(run, tmp_path):
    run("-n", 1)
    assert b"exists" in run("-n", 1, code=2).err
    run("-n", 1, "--force", "--quiet")
    assert run("-n", 1, "-o", "-").out == (tmp_path / "grid.png").read_bytes()
