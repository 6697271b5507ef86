"""Bits of an ideal channel at equal quality: against closed forms, and the command on a small model."""

import json

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from bench import ideal
from ddpm.diffusion.bands import BANDS, Bands
from ddpm.diffusion.bound import per_dim
from ddpm.diffusion.likelihood import LN2, to_unit
from ddpm.diffusion.schedule import LinearGamma
from ddpm.models.load import save_model
from ddpm.models.model import DDPM
from ddpm.training.presets import PRESETS

RATIOS = ((0.8, *[0.0] * (BANDS - 1)), (1.3, *[0.5] * (BANDS - 1)), (1.0,) * BANDS)
SCHEDULES = [LinearGamma(6.0, -4.0), Bands((6.0, 1.0, -4.0), RATIOS, (1.0,) * BANDS)]


class Grey(torch.nn.Module):
    """Sees nothing: x_hat is 0."""

    def __init__(self, schedule):
        super().__init__()
        self.schedule = schedule

    def forward(self, z, gamma):
        return z / torch.sigmoid(gamma).sqrt().to(z).view(-1, 1, 1, 1), torch.zeros_like(z)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=["isotropic", "by frequency"])
def test_of_a_model_that_sees_nothing_bits_are_those_of_the_snr(schedule):
    """1/2 (SNR at the end) x^2, and what 1/2 ln(1 + SNR) of the first level is less than that; the picture is grey."""
    x = torch.randint(0, 256, (2, 3, 16, 24), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    bits, psnr = ideal.walk(Grey(schedule), x, np.arange(2), 400)
    values = to_unit(x)
    wanted = per_dim(values.double() ** 2) * np.exp(4) / 2 / LN2  # all ratios are 1 in the end
    assert bits[-1] == pytest.approx(wanted.numpy(), rel=0.01)
    assert (np.diff(bits, axis=0) >= 0).all()
    assert psnr[0] == pytest.approx(10 * np.log10(255**2 / (127.5**2 * per_dim(values**2).numpy())), abs=0.05)


def test_bits_at_a_quality_lie_between_those_of_levels():
    row = lambda psnr, bits: {"model": "a", "picture": 0, "level": 0, "psnr": psnr, "bits_per_dim": bits}  # noqa: E731
    [found] = ideal.at_quality([row(25.0, 0.1), row(27.0, 0.4), row(30.0, 0.8)])["a"]
    assert found[1:4] == pytest.approx([0.2, 0.4 * 2 ** (1 / 3), 0.8])
    assert np.isnan(found[[0, 4]]).all()


def test_models_are_compared_picture_by_picture(tmp_path):
    torch.manual_seed(0)
    for name, schedule in (("plain-1", None), ("bands-1", {"kind": "bands", "nodes": [5.5, 0.0, -9.2]})):
        config = dict(PRESETS["tiny"]["model"])
        if schedule:
            config["schedule"] = schedule | {"ratios": RATIOS, "variance": [1.0] * BANDS}
        save_model(DDPM(config), tmp_path / name, {})
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)).save(tmp_path / "a.png")
    names = [word for name in ("plain-1", "bands-1") for word in ("--model", str(tmp_path / name))]
    how = ["--images", "1", "--levels", "5", *names, "-o", str(tmp_path / "out.json")]
    done = CliRunner().invoke(ideal.main, [str(tmp_path / "a.png"), *how], catch_exceptions=False)
    assert done.exit_code == 0
    result = json.loads((tmp_path / "out.json").read_text())
    assert {row["model"] for row in result["rows"]} == {"plain-1", "bands-1"}
    assert len(result["rows"]) == 10
    assert "against plain-1" in done.output
