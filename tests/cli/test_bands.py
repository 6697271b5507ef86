"""Noise by frequency at the command line: a run is trained, measured and sampled; what there is not yet is one line."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ddpm.diffusion.bands import BANDS
from ddpm.training.presets import PRESETS

PICTURES = Path(__file__).parents[2] / "bench" / "pictures"
SCHEDULE = {"kind": "bands", "nodes": [6, 1, -8], "variance": [1.0] * BANDS}
SCHEDULE["ratios"] = [[1.0, *[0.0] * (BANDS - 1)], [1.0, *[0.5] * (BANDS - 1)], [1.0] * BANDS]


@pytest.fixture
def run(command, tmp_path) -> str:
    """The folder of a training run of three steps."""
    changes = {"model": {**PRESETS["tiny"]["model"], "schedule": SCHEDULE}, "crop": 16, "batch": 8, "decay_images": 24}
    words = [word for name, value in changes.items() for word in ("--set", f"{name}={json.dumps(value)}")]
    code, _, err = command("train", PICTURES, "--preset", "tiny", *words, "-o", tmp_path / "run", "--quiet")
    assert code == 0, err
    return str(tmp_path / "run")


def test_a_run_is_trained_measured_and_sampled(command, run, tmp_path):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 24, 3), np.uint8)).save(tmp_path / "a.png")
    code, out, err = command("bpd", "--model", run, tmp_path / "a.png", "--steps", 5, "--json")
    assert code == 0, err
    assert json.loads(out)["total"] > 5
    code, out, err = command("sample", "--model", run, "--steps", 4, "-o", tmp_path / "s.png")
    assert code == 0, err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("bpd --model RUN PICTURES --ode --quiet", "isotropic noise only"),
        ("calibrate RUN PICTURES -o OUT --quiet", "no code yet for noise by frequency"),
    ],
)
def test_what_there_is_not_yet_is_one_line(command, run, tmp_path, words, says):
    places = {"RUN": run, "PICTURES": PICTURES, "OUT": tmp_path / "out"}
    code, _, err = command(*(places.get(word, word) for word in words.split()))
    assert code == 2
    assert says in err
    assert len(err.strip().splitlines()) == 1
    assert not list(tmp_path.glob("out*"))
