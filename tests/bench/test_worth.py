"""What a bit is worth in each band: against the closed form of Gaussian pictures, and the command on a small model."""

import json

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from bench import worth
from ddpm.diffusion import cosines
from ddpm.diffusion.bands import BANDS
from ddpm.diffusion.schedule import LinearGamma
from ddpm.models.load import save_model
from ddpm.models.model import DDPM
from ddpm.training.presets import PRESETS

BLOCK = 8
VARIANCE = np.geomspace(0.2, 0.0005, BANDS)  # so that few are cut to the range


class Wiener(torch.nn.Module):
    """The best there is for Gaussian pictures of these variances."""

    clip = False

    def __init__(self):
        super().__init__()
        self.schedule = LinearGamma(3.0, -5.0)

    def forward(self, z, gamma):
        alpha, sigma = (torch.sigmoid(g).sqrt().view(-1, 1, 1, 1).to(z) for g in (-gamma, gamma))
        band = cosines.band_of(BLOCK, (z.shape[2], z.shape[3])).long()
        v = torch.from_numpy(VARIANCE).to(z)[band]
        x_hat = cosines.picture(cosines.coordinates(z, BLOCK) * (alpha * v / (alpha**2 * v + sigma**2)), BLOCK)
        return (z - alpha * x_hat) / sigma, torch.zeros_like(z)


def gaussian_pictures(n: int, side: int) -> list[np.ndarray]:
    """Of Wiener's variances, scaled to levels."""
    eps = torch.randn(n, 3, side, side, generator=torch.Generator().manual_seed(0))
    spread = torch.from_numpy(VARIANCE).sqrt().float()[cosines.band_of(BLOCK, (side, side)).long()]
    x = cosines.picture(eps * spread, BLOCK)
    return [*((x.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()]


def test_gaussian_pictures_lose_twice_their_variance_for_a_nat():
    """-dD/dSNR = v^2 and dR/dSNR = v/2 in a coordinate of posterior variance v."""
    pictures, model = gaussian_pictures(24, 64), Wiener()
    bands = worth.isotropic(model, pictures, BLOCK)
    assert np.allclose(bands.variance, VARIANCE, rtol=0.15)
    rows = [*worth.measure(model, bands, pictures, 3)]
    assert {row["t"] for row in rows} == {1.0, -1.0, -3.0}
    for t in (1.0, -1.0, -3.0):
        at = [row for row in rows if row["t"] == t]
        v = VARIANCE / (1 + VARIANCE * np.exp(-t))
        assert sum(row["share"] for row in at) == pytest.approx(1)
        for row in at:
            if row["share"] > 0.01:
                assert row["error_per_bit"] == pytest.approx(2 * v[row["band"]] * np.log(2), rel=0.12)
        scale = [row["error_per_bit"] / row["worth"] for row in at]
        assert np.ptp(scale) < 1e-9 * max(scale)


def test_a_model_of_bands_by_the_command(tmp_path):
    torch.manual_seed(0)
    ratios = ((0.8, *[0.0] * (BANDS - 1)), (1.3, *[0.5] * (BANDS - 1)), (1.0,) * BANDS)
    schedule = {"kind": "bands", "nodes": [5.5, 0.0, -9.2], "ratios": ratios, "variance": [1.0] * BANDS}
    save_model(DDPM(dict(PRESETS["tiny"]["model"]) | {"schedule": schedule}), tmp_path / "bands-1", {})
    rng = np.random.default_rng(0)
    for i in range(3):
        Image.fromarray(rng.integers(0, 256, (24, 24, 3), np.uint8)).save(tmp_path / f"{i}.png")
    out = tmp_path / "worth.json"
    args = [
        tmp_path,
        "--crop",
        "16",
        "--levels",
        "4",
        "--model",
        tmp_path / "bands-1",
        "-o",
        out,
        "-p",
        tmp_path / "w.png",
    ]
    ran = CliRunner().invoke(worth.main, [*map(str, args)])
    assert ran.exit_code == 0, ran.output
    rows = json.loads(out.read_text())["rows"]
    sent = {t: {row["band"] for row in rows if row["t"] == t} for t in {row["t"] for row in rows}}
    assert len(sent) == 4
    assert all(bands == set(range(BANDS)) for bands in sent.values())  # the first node alone has fewer
    assert (tmp_path / "w.png").stat().st_size > 1000
    for row in rows:
        assert np.isfinite([row["share"], row["worth"], row["stderr"]]).all()
