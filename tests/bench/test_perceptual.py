import json

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from scipy.linalg import sqrtm

from bench import perceptual

torchmetrics = pytest.importorskip("torchmetrics")


class Colours(torch.nn.Module):
    """Features without weights: mean red, green and blue, and two contrasts."""

    num_features = 5

    def forward(self, x):
        x = x.float() / 255
        return torch.cat([x.mean((2, 3)), x[..., 0, :].std((1, 2))[:, None], x[..., 0].std((1, 2))[:, None]], 1)


def sets(n=70, size=12):
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (n, size, size, 3), np.uint8) // rng.integers(1, 6, (n, 1, 1, 1), np.uint8)
    return list(x), list((x // 2 + rng.integers(0, 60, x.shape, np.uint8)).astype(np.uint8))


def test_fid_is_the_distance_of_gaussians():
    from torchmetrics.image.fid import FrechetInceptionDistance

    originals, decoded = sets()
    metric = FrechetInceptionDistance(feature=Colours())
    found = perceptual.measure(originals, decoded, {"fid": (perceptual.fid, metric)})["fid"]
    a, b = (Colours()(torch.from_numpy(np.stack(s)).permute(0, 3, 1, 2)).double().numpy() for s in (originals, decoded))
    (m1, c1), (m2, c2) = ((f.mean(0), np.cov(f, rowvar=False)) for f in (a, b))
    expected = ((m1 - m2) ** 2).sum() + np.trace(c1 + c2 - 2 * sqrtm(c1 @ c2).real)
    assert found == pytest.approx(expected, rel=1e-3)
    again = perceptual.measure(originals, originals, {"fid": (perceptual.fid, metric)})["fid"]
    assert again == pytest.approx(0, abs=1e-4)


def test_lpips_sees_pairs_in_order():
    class Pairs(torchmetrics.MeanMetric):
        def update(self, x, y):
            super().update((x - y).abs().mean((1, 2, 3)))

    originals, decoded = sets()
    found = perceptual.measure(originals, decoded, {"lpips": (perceptual.lpips, Pairs())})["lpips"]
    difference = np.abs(np.stack(originals).astype(float) - np.stack(decoded)).mean() / 255
    assert found == pytest.approx(difference, rel=1e-4)


def test_sets_must_match():
    originals, decoded = sets(4)
    with pytest.raises(ValueError, match="3 pictures for 4"):
        perceptual.measure(originals, decoded[:3], {})
    with pytest.raises(ValueError, match="one size"):
        list(perceptual.batches([originals[0], originals[1][:5]]))


def test_what_is_missing_is_said_in_one_line(tmp_path, monkeypatch):
    for name, pictures in zip(("a", "b"), sets(2)):
        (tmp_path / name).mkdir()
        for i, p in enumerate(pictures):
            Image.fromarray(p).save(tmp_path / name / f"{i}.png")
    names = [str(tmp_path / "a"), str(tmp_path / "b")]
    for module in ("torchmetrics.image.fid", "torchmetrics.image.lpip"):
        monkeypatch.setitem(__import__("sys").modules, module, None)
    done = CliRunner().invoke(perceptual.main, names)
    assert done.exit_code
    assert done.output.count("\n") == 3
    colours = {"fid": (lambda *_: 1.25, torchmetrics.MeanMetric())}
    monkeypatch.setattr(perceptual, "metrics", lambda *_: colours)
    out = tmp_path / "p.json"
    CliRunner().invoke(perceptual.main, [*names, "-o", str(out)], catch_exceptions=False)
    [row] = json.loads(out.read_text())["rows"]
    assert (row["images"], row["fid"]) == (2, 1.25)
