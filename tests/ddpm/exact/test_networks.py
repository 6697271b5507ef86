"""Whole networks of common functions, exactly: by all kinds of convolution, with any number of threads, alone and in
company, with oneDNN or without."""

from contextlib import contextmanager

import pytest
import torch

from ddpm.exact import functions, passes
from ddpm.exact.convolution import Float32, Float64, Int8
from ddpm.models.load import load_model
from ddpm.models.model import DDPM

from .test_exact import largest_weight

SMALL = {"base": 16, "multipliers": [1, 2], "blocks": [1, 1], "attention": [1], "groups": 4}
SCHEDULE = {"kind": "linear-gamma"}


@pytest.fixture(scope="module", params=["scale and shift", "as the paper", "diffusers"])
def model(request, tmp_path_factory):
    torch.manual_seed(0)
    if request.param == "diffusers":
        pytest.importorskip("diffusers")
        from tests.ddpm.pretrained_folders import save

        folder = tmp_path_factory.mktemp("model")
        save(folder)
        return load_model(str(folder))
    network = SMALL | {"scale_shift": request.param == "scale and shift"}
    model = DDPM({"schedule": SCHEDULE, "network": network})
    for p in model.parameters():
        if not p.any():
            torch.nn.init.normal_(p, std=0.05)
    return model.only_evaluated()


def noise(batch=3, side=16):
    return torch.randn(batch, 3, side, side, generator=torch.Generator().manual_seed(1))


@torch.inference_mode()
def answers(model, z, gamma=-1.5):
    model.exact.exactly.convs.clear()
    return torch.stack(model.maps(z, torch.full((len(z),), gamma)))


@contextmanager
def by(monkeypatch, kind=None, threads=1, onednn=True, kernels=True):
    before = torch.get_num_threads()
    with monkeypatch.context() as patch, torch.backends.mkldnn.flags(enabled=onednn):
        if kind is not None:
            patch.setattr(functions, "fastest", lambda device, little: kind)
        patch.setattr(passes.WORK, "done", passes.ENOUGH)
        if not kernels:
            patch.setattr(passes.WORK, "done", -(1 << 60))
        torch.set_num_threads(threads)
        yield
    torch.set_num_threads(before)


HOW = [{"kind": Float32}, {"kind": Float64}, {"kind": Int8}, {"threads": 2}, {"onednn": False}, {"kernels": False}]


@pytest.mark.parametrize("how", HOW, ids=str)
def test_it_is_the_same_whatever_computes_it(model, how, monkeypatch):
    if how.get("kind") is Int8 and not largest_weight(Int8):
        pytest.skip("this machine's libraries have no convolution of bytes")
    z = noise()
    one = answers(model, z)
    with by(monkeypatch, **how):
        assert torch.equal(answers(model, z), one)


def test_no_picture_minds_the_others(model):
    z = noise(20)
    together = answers(model, z)
    assert torch.equal(together[:, 7:8], answers(model, z[7:8]))
    other = z.clone()
    other[0] *= 100
    assert torch.equal(answers(model, other)[:, 1:], together[:, 1:])


@pytest.mark.parametrize("gamma", [5.0, 0.3, -3.0, -9.0])
def test_it_is_near_the_float_network(model, gamma):
    z = noise()
    exact = answers(model, z, gamma)
    with torch.inference_mode():
        floats = torch.stack(model.maps_at(z, gamma))
    error, power = (exact - floats).square().mean((1, 2, 3, 4)), floats.square().mean((1, 2, 3, 4))
    assert (error <= 2e-4 * power).all()


def test_pictures_of_one_colour_and_of_nothing_are_no_trouble(model):
    z = torch.zeros(2, 3, 16, 16)
    z[1] = 1e-30
    assert answers(model, z).isfinite().all()
    z[0, 0, 0, 0] = torch.nan
    assert not answers(model, z)[:1].isfinite().all()


def test_weights_that_change_are_seen(model):
    z = noise()
    before = answers(model, z)
    weight = next(p for p in model.net.parameters() if p.ndim == 4)
    with torch.no_grad():
        weight.mul_(1.1)
        after = torch.stack(model.maps(z, torch.full((3,), -1.5)))
        weight.div_(1.1)
    assert not torch.equal(before, after)
