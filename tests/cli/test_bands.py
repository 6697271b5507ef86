"""Noise by frequency at the command line: a run is trained, measured, sampled, and codes."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ddpm.diffusion.bands import BANDS
from ddpm.training.presets import PRESETS
from tests.conftest import smooth_picture

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


def test_a_run_becomes_a_model_that_codes(command, run, tmp_path):
    picture = smooth_picture(16, 24)
    Image.fromarray(picture).save(tmp_path / "a.png")
    how = ["--images", 2, "--crop", 32, "--steps", 6, "--memory", 4, "--min-bits", 4, "--scale", 2, "--quiet"]
    code, _, err = command("calibrate", run, PICTURES, "-o", tmp_path / "own-1", *how)
    assert code == 0, err
    for words in (["--lossless"], ["--rate", "1"]):
        model = ["--model", tmp_path / "own-1", "--force", "--quiet"]
        code, _, err = command("encode", tmp_path / "a.png", tmp_path / "a.ddpm", *words, *model)
        assert code == 0, err
        code, _, err = command("decode", tmp_path / "a.ddpm", tmp_path / "b.png", *model)
        assert code == 0, err
        shown = np.asarray(Image.open(tmp_path / "b.png"))
        assert shown.shape == picture.shape
        assert np.array_equal(shown, picture) == (words == ["--lossless"])


def test_what_there_is_not_yet_is_one_line(command, run):
    code, _, err = command("bpd", "--model", run, PICTURES, "--ode", "--quiet")
    assert code == 2
    assert "isotropic noise only" in err
    assert len(err.strip().splitlines()) == 1
