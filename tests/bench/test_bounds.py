import json

import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from bench import bounds
from bench.reporting.run import presented
from bench.reporting.table import tables_of
from ddpm.diffusion.bound import bound, terms_for
from ddpm.diffusion.reverse import Reverse
from ddpm.models.load import load_model
from tests.conftest import smooth_picture

SIZES = [(16, 16), (8, 24), (16, 16), (16, 16)]


def test_one_picture_has_no_error():
    row = {"steps": 5, "images": 1, "rate": 1.0, "distortion": 2.0, "total": 3.0, "stderr": None}
    assert bounds.present({"rows": [row]})[1][0].rows[0][-1] == "3.000"


def test_the_bound_of_a_folder(models, tmp_path, monkeypatch):
    monkeypatch.setattr(bounds, "BATCH_PIXELS", 512)
    for seed, size in enumerate(SIZES):
        Image.fromarray(smooth_picture(*size, seed)).save(tmp_path / f"{seed}.png")
    out = ["-o", str(tmp_path / "b.json"), "-p", str(tmp_path / "b.png")]
    asked = [str(tmp_path), "--steps", "5,9,inf", "--model", "tiny", "--device", "cpu", *out]
    said = CliRunner().invoke(bounds.main, asked, catch_exceptions=False).stdout
    result = json.loads((tmp_path / "b.json").read_text())
    assert presented(result) == result
    assert [r["steps"] for r in result["rows"]] == [5, 9, "infinity"]
    model, one = load_model("tiny", "cpu"), torch.from_numpy(smooth_picture(*SIZES[1], 1)).permute(2, 0, 1)[None]
    rest = torch.stack([torch.from_numpy(smooth_picture(16, 16, i)).permute(2, 0, 1) for i in (0, 2, 3)])
    for row, T in zip(result["rows"], (5, 9, None)):
        terms = terms_for(Reverse(model), T)
        a, b = (bound(terms, [x], samples=2, numbers=[n], quiet=True) for x, n in ((one, [1]), (rest, [0, 2, 3])))
        assert row["total"] == pytest.approx((a.total + 3 * b.total) / 4, rel=1e-4)
        assert row["images"] == 4
    [table] = tables_of(result)
    assert table.rows[0][0] == "ddpm-codec, T = 5, 4 images"
    assert table.rows[-1] == ["DDPM, L_simple (Ho et al. 2020)", "1.78", "1.97", "3.75"]
    assert "+-" in said
    assert Image.open(tmp_path / "b.png").width > 300


def test_the_bound_of_the_code(models, tmp_path):
    """Its rate is the same, its distortion that of p(x | z_0) in context."""
    Image.fromarray(smooth_picture(16, 16, 0)).save(tmp_path / "0.png")
    asked = [str(tmp_path), "--steps", "6,inf", "--model", "tiny", "--device", "cpu", "-o", str(tmp_path / "b.json")]
    found = []
    for more in ([], ["--context"]):
        CliRunner().invoke(bounds.main, [*asked, *more], catch_exceptions=False)
        found.append(json.loads((tmp_path / "b.json").read_text()))
    for plain, known in zip(*(result["rows"] for result in found), strict=True):
        assert known["context"]
        assert known["rate"] == plain["rate"]
        assert known["distortion"] != plain["distortion"]
        assert known["distortion"] == pytest.approx(plain["distortion"], rel=0.2)
    assert tables_of(found[1])[0].rows[0][0] == "ddpm-codec, T = 6, 1 images, L_0 of its code"
