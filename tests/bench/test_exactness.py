import json

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from bench import exactness
from bench.reporting.run import presented
from codec.lossy.tables import CodingTables
from ddpm.diffusion.likelihood import to_unit
from ddpm.models.load import load_model
from tests.conftest import smooth_picture


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "set").mkdir()
    for i in range(3):
        Image.fromarray(smooth_picture(16, 16, i)).save(tmp_path / "set" / f"{i}.png")
    return tmp_path


def test_exact_networks_are_near_the_ones_in_floats(models, folder):
    out = folder / "e.json"
    how = ["--model", "tiny", "--levels", "3", "-o", str(out)]
    done = CliRunner().invoke(exactness.main, [str(folder / "set"), *how], catch_exceptions=False)
    result = json.loads(out.read_text())
    rows = result["rows"]
    assert [row["images"] for row in rows] == [3] * 3
    assert rows[0]["gamma"] > rows[1]["gamma"] > rows[2]["gamma"]
    for row in rows:
        assert 0 < row["apart"] <= row["farthest"] < 0.01
        assert abs(row["added"]) < 0.01
    assert presented(result) == result
    assert "all" in done.stdout


def test_what_an_exact_network_adds_is_seen(models):
    """An error that is put in is found, and the three figures are the sides of a triangle."""
    model = load_model("tiny-1")
    tables, x = CodingTables.of_model(model), to_unit(torch.from_numpy(smooth_picture(16, 16)).permute(2, 0, 1)[None])
    [level] = exactness.levels(tables, 3)[1:2]
    near = exactness.squares(model, tables, level, x, 0)
    kept = model.exact

    class Off:
        def knows(self, gamma):
            return True

        def at(self, z, gamma):
            h_eps, h_m = kept.at(z, gamma)
            return h_eps + 0.5, h_m

    off = Off()
    model.exact = off
    floats, exact, apart = exactness.squares(model, tables, level, x, 0)[0]
    assert model.exact is off
    assert floats == near[0, 0]
    assert apart > 100 * near[0, 2]
    assert np.sqrt(exact) <= np.sqrt(floats) + np.sqrt(apart) + 1e-9
    assert np.sqrt(exact) >= abs(np.sqrt(floats) - np.sqrt(apart)) - 1e-9
