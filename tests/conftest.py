"""A small model with coding tables, and small pictures: the real code on sizes that take milliseconds."""

import os
import shutil
import signal
import time

import numpy as np
import pytest
import torch

from codec.calibration.tables import coding_tables
from codec.format.models import known_cards
from ddpm.models.load import load_model, save_model
from ddpm.models.model import DDPM
from ddpm.training.presets import PRESETS


def smooth_picture(height, width, seed=0, channels=3):
    """A seeded picture with structure at several scales, uint8 (H, W, 3) or (H, W)."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width] / 8
    planes = [
        128
        + 60 * np.sin(x * rng.uniform(0.3, 1.5) + y * rng.uniform(0.3, 1.5) + c)
        + 12 * rng.standard_normal((height, width))
        for c in range(channels)
    ]
    picture = np.clip(np.stack(planes, -1), 0, 255).astype(np.uint8)
    return picture if channels == 3 else picture[..., 0]


@pytest.fixture(scope="session", autouse=True)
def foreground():
    """Interrupts are heard, as in the foreground; jobs in the background are started with ears closed."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def tiny(folder):
    """Write the model ``tiny-1``."""
    random_model(folder / "tiny-1", PRESETS["tiny"]["model"]["network"])


def tiniest(folder):
    """Write another ``tiny-1``, of one block of each kind, for tests in which networks work most of the time."""
    random_model(folder / "tiny-1", PRESETS["tiny"]["model"]["network"] | {"blocks": [0, 0]})


def random_model(path, network, **changes):
    """Write a model with random weights that do something, with coding tables; ``changes`` of its configuration."""
    torch.manual_seed(0)
    model = DDPM({**PRESETS["tiny"]["model"], "network": network, "native": 16, **changes}).eval()
    for p in model.parameters():
        if not p.any():
            torch.nn.init.normal_(p, std=0.015)  # more would amplify rounding beyond what lossless files allow for
    batch = torch.from_numpy(np.stack([smooth_picture(16, 16, s) for s in range(8)])).permute(0, 3, 1, 2)
    levels = np.linspace(5.5, -9.2, 25)
    coding = coding_tables(model, [batch], levels, surplus=1.05, memory=8, min_bits=12, quiet=True)
    save_model(model, path, {"coding": coding.to_card()})


def made_once(make, factory):
    """A folder that ``make`` has filled, in one of the workers that run the tests; the others wait for it."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        make(folder := factory.mktemp(make.__name__))
        return folder
    place = factory.getbasetemp().parent / make.__name__
    try:
        place.with_suffix(".begun").mkdir()
    except FileExistsError:
        end = time.monotonic() + 600
        while not place.exists():
            assert time.monotonic() < end, f"no {place}"
            time.sleep(0.1)
    else:
        make(folder := factory.mktemp(make.__name__))
        folder.rename(place)
    return place


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    """A folder of models that the package finds by name: ``tiny-1``."""
    folder = shutil.copytree(made_once(tiny, tmp_path_factory), tmp_path_factory.mktemp("models"), dirs_exist_ok=True)
    os.environ["DDPM_CODEC_MODELS"] = str(folder)
    known_cards.cache_clear()
    return folder


@pytest.fixture(scope="session")
def tiniest_model(tmp_path_factory):
    """The path of a model that is evaluated in half the time of ``tiny-1``."""
    return str(made_once(tiniest, tmp_path_factory) / "tiny-1")


@pytest.fixture(scope="session")
def model(models):
    return load_model("tiny-1")


@pytest.fixture(scope="session")
def codec(models):
    from codec import Codec

    return Codec("tiny-1")
