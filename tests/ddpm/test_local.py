from copy import deepcopy

import pytest
import torch

from ddpm.models.model import DDPM
from ddpm.networks import local
from ddpm.training.presets import PRESETS

NETWORK = {"kind": "local", "widths": [8, 12, 16], "down": [1, 2, 2], "up": [1, 1, 0], "patch": 2}


def network(std):
    """With random weights; the larger, the less steady."""
    torch.manual_seed(1)
    model = DDPM({**PRESETS["tiny"]["model"], "network": NETWORK}).eval().requires_grad_(False)
    for p in model.parameters():
        if not p.any():
            torch.nn.init.normal_(p, std=std)
    return model


@pytest.fixture(scope="module")
def model():
    return network(0.1)


def cut(monkeypatch, strip):
    """Have the network see so many pixels at once, and no more than twice as many as a whole."""
    for name, pixels in {"WHOLE": 2 * strip, "STRIP": strip}.items():
        monkeypatch.setattr(local, name, pixels)


def answer(model, z, at_once, monkeypatch):
    cut(monkeypatch, at_once)
    with torch.inference_mode():
        return torch.cat(model(z, torch.linspace(3, -3, len(z))))


@pytest.mark.parametrize("size", [(8, 8), (8, 40), (40, 8), (136, 24), (61, 27), (1, 300), (300, 1)])
@pytest.mark.parametrize("at_once", [16, 64, 256])
def test_strips_give_what_the_whole_gives(model, size, at_once, monkeypatch):
    z = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))
    whole = answer(model, z, 1 << 30, monkeypatch)
    assert float(whole.std()) > 0.1
    assert torch.allclose(answer(model, z, at_once, monkeypatch), whole, atol=1e-5)
    exact = [answer(deepcopy(model).double(), z.double(), n, monkeypatch) for n in (at_once, 1 << 30)]
    assert torch.allclose(*exact, atol=1e-12)


def test_what_is_said_of_a_pixel_depends_on_its_neighbourhood_alone(model, monkeypatch):
    z = torch.randn(1, 3, 256, 16, generator=torch.Generator().manual_seed(0))
    other = z.clone()
    other[:, :, 200:] += 1
    a, b = (answer(model, v, 1 << 30, monkeypatch) for v in (z, other))
    assert torch.allclose(a[:, :, :80], b[:, :, :80], atol=1e-6)
    assert not torch.allclose(a[:, :, 190:200], b[:, :, 190:200], atol=1e-3)


def test_fold_is_undone_and_puts_neighbours_together():
    x = torch.arange(2 * 4 * 6 * 3).view(2, 4, 6, 3)
    assert torch.equal(local.unfold(local.fold(x, 2), 2), x)
    assert local.fold(x, 2)[0, 0, 0].tolist() == [*range(6), *range(18, 24)]


def test_one_picture_under_autocast_is_treated_as_several(model):
    z, gamma = torch.randn(2, 3, 16, 24, generator=torch.Generator().manual_seed(0)), torch.zeros(2)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        both, one = (model(z[:n], gamma[:n])[0].float() for n in (2, 1))
    assert torch.allclose(both[:1], one, atol=0.05)
