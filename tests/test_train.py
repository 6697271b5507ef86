import json

import numpy as np
import pytest
import torch

from ddpm.bound import bound
from ddpm.data import Crops
from ddpm.presets import preset_config
from ddpm.train import Run

from .conftest import smooth_picture

PICTURES = [smooth_picture(24, 24, s) for s in range(6)]


def make(tmp_path, **changes):
    settings = {"compile": False, "bf16": False, "lr": 3e-3, "decay_images": 100_000, "batch": 16, **changes}
    return Run(preset_config("tiny", ["-"], settings), tmp_path)


def test_training_shortens_the_code(tmp_path):
    run = make(tmp_path, decay_images=4800, lr=1e-2)
    test = [torch.from_numpy(np.stack([p[:16, :16] for p in PICTURES])).permute(0, 3, 1, 2)]
    before = bound(run.model, test, samples=8, quiet=True)
    run.fit(Crops(PICTURES, 16), minutes=5, quiet=True, every=0.2)
    after = bound(run.model, test, samples=8, quiet=True)
    assert after["total"] < before["total"] - 0.3
    assert after["total"] == pytest.approx(after["prior"] + after["diffusion"] + after["decoder"])
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert rows[-1]["images"] > 0
    assert {"bits_per_dim", "images_per_s", "lr"} <= set(rows[-1])


def test_resumes_where_it_stopped(tmp_path):
    run = make(tmp_path)
    run.fit(Crops(PICTURES, 16), minutes=0.02, quiet=True)
    again = make(tmp_path)
    assert (again.steps, again.images) == (run.steps, run.images)
    for a, b in zip(run.model.parameters(), again.model.parameters()):
        assert torch.equal(a, b)
        for key, value in run.optimizer.state[a].items():
            assert torch.equal(value, again.optimizer.state[b][key])
    for key, value in run.average.items():
        assert torch.equal(value, again.average[key])


def test_simple_objective_on_the_papers_schedule(tmp_path):
    config = preset_config("tiny", ["-"], {"compile": False, "objective": "simple", "bf16": False})
    config.model = {**config.model, "schedule": {"kind": "linear-beta"}}
    run = Run(config, tmp_path)
    run.fit(Crops(PICTURES, 16), minutes=0.02, quiet=True, every=0.1)
    assert json.loads((tmp_path / "log.jsonl").read_text().splitlines()[-1])["mse"] > 0


def test_unknown_settings_are_named():
    with pytest.raises(ValueError, match="no such setting: speed"):
        preset_config("tiny", [], {"speed": 9})
