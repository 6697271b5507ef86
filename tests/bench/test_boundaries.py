import json

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from bench import boundaries
from ddpm.models.load import load_model, save_model
from tests.conftest import smooth_picture


def test_a_seam_is_seen_where_cells_end():
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((64, 96, 3))
    cells = np.kron(rng.standard_normal((16, 24, 1)), np.ones((4, 4, 3)))
    assert boundaries.seam(noise, 4, 1) == pytest.approx(1, abs=0.05)
    assert boundaries.seam(noise, 4, 2) == pytest.approx(1, abs=0.05)
    assert boundaries.seam(noise + cells, 4, 1) > 1.2
    assert boundaries.seam(noise + cells, 4, 2) > 1.2
    assert boundaries.seam(noise + cells, 8, 4) == pytest.approx(1, abs=0.1)


def test_each_change_of_scale_is_shown(models, tmp_path):
    model = load_model("tiny-1")
    levels = len(model.coding["levels"])
    scales = [1, 4, 4, 2, 2, 2, *[1] * levels][: levels + 1]
    save_model(model, tmp_path / "pyramid-1", {"coding": {**model.coding, "scales": scales}})
    Image.fromarray(smooth_picture(32, 48)).save(tmp_path / "a.png")
    out = ["-o", str(tmp_path / "b.json"), "-p", str(tmp_path / "b.png")]
    arguments = [str(tmp_path / "a.png"), "--rate", "2", "--model", str(tmp_path / "pyramid-1"), *out]
    CliRunner().invoke(boundaries.main, arguments, catch_exceptions=False)
    rows = json.loads((tmp_path / "b.json").read_text())["rows"]
    assert [(r["from"], r["to"]) for r in rows] == [(4, 2), (2, 1)]
    assert all(r["rmse"] > 0 and 0 < r["seam"] < 10 for r in rows)
    assert Image.open(tmp_path / "b.png").width > 500
