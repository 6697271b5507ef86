import json

import numpy as np
import pytest
import torch

from ddpm.errors import UnknownModel
from ddpm.models.load import load_model, save_model
from ddpm.models.model import DDPM, mirror
from ddpm.models.store import find_model, read_card, shipped_models
from ddpm.training.presets import PRESETS


def test_mirror_reflects_without_repeating_the_edge():
    assert mirror(4, 9).tolist() == [0, 1, 2, 3, 2, 1, 0, 1, 2]
    assert mirror(1, 3).tolist() == [0, 0, 0]


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (16, 16), (17, 23)])
def test_any_size_goes_through(model, size):
    with torch.inference_mode():
        eps_hat, log_m = model(torch.randn(2, 3, *size), torch.tensor([1.0, -2.0]))
    assert eps_hat.shape == log_m.shape == (2, 3, *size)
    assert torch.isfinite(eps_hat).all()
    assert torch.isfinite(log_m).all()


def test_untrained_network_is_the_best_linear_guess():
    """With zero outputs eps_hat is E[eps | z] for Gaussian data of standard deviation 1/2, and m its error."""
    net = DDPM(PRESETS["tiny"]["model"])
    gamma = 0.7
    alpha2, sigma2 = 1 / (1 + np.exp(gamma)), 1 / (1 + np.exp(-gamma))
    x, eps = 0.5 * torch.randn(64, 3, 16, 16), torch.randn(64, 3, 16, 16)
    with torch.inference_mode():
        eps_hat, log_m = net(alpha2**0.5 * x + sigma2**0.5 * eps, torch.full((64,), gamma))
    assert float((eps - eps_hat).square().mean()) == pytest.approx(float(log_m.exp().mean()), rel=0.02)


def test_save_and_load(model, tmp_path):
    save_model(model, tmp_path / "m-1", {"coding": model.coding})
    again = load_model(str(tmp_path / "m-1.safetensors"))
    assert again.fingerprint == model.fingerprint
    z = torch.randn(1, 3, 16, 16)
    with torch.inference_mode():
        assert torch.equal(again(z, torch.zeros(1))[0], model(z, torch.zeros(1))[0])


def test_fingerprint_covers_weights_and_tables(model, tmp_path):
    save_model(model, tmp_path / "a-1", {"coding": model.coding})
    save_model(model, tmp_path / "b-1", {"coding": {**model.coding, "min_bits": 1}})
    assert read_card(tmp_path / "a-1")["fingerprint"] != read_card(tmp_path / "b-1")["fingerprint"]


def test_models_share_weights(model, tmp_path):
    """A card that names the weights of the model beside it; a name is no path to elsewhere."""
    save_model(model, tmp_path / "a-1", {"coding": model.coding})
    save_model(model, tmp_path / "a-2", {"coding": {**model.coding, "min_bits": 1}, "weights": "a-1"})
    assert not (tmp_path / "a-2.safetensors").exists()
    first, second = (load_model(str(tmp_path / name)) for name in ("a-1", "a-2"))
    assert (second.name, second.coding["min_bits"]) == ("a-2", 1)
    assert first.fingerprint != second.fingerprint
    assert all(torch.equal(a, b) for a, b in zip(first.state_dict().values(), second.state_dict().values()))
    save_model(model, tmp_path / "sub" / "b-1", {"coding": model.coding, "weights": "../a-1"})
    with pytest.raises(UnknownModel, match="no model"):
        load_model(str(tmp_path / "sub" / "b-1"))


def test_shared_weights_are_found_in_a_line(models, monkeypatch, tmp_path):
    for suffix in (".safetensors", ".json"):
        (tmp_path / f"x-1{suffix}").write_bytes((models / f"tiny-1{suffix}").read_bytes())
    card = json.loads((tmp_path / "x-1.json").read_text())
    (tmp_path / "x-2.json").write_text(json.dumps({**card, "weights": "x-1"}))
    (tmp_path / "results.json").write_text("[1]")  # no model
    monkeypatch.setenv("DDPM_CODEC_MODELS", str(tmp_path))
    assert find_model("x").name == "x-2"
    assert "results" not in shipped_models()


def test_a_line_means_its_newest(models, monkeypatch, tmp_path):
    for name in ("x-2", "x-10"):
        for suffix in (".safetensors", ".json"):
            (tmp_path / (name + suffix)).write_bytes((models / ("tiny-1" + suffix)).read_bytes())
    monkeypatch.setenv("DDPM_CODEC_MODELS", str(tmp_path))
    assert find_model("x").name == "x-10"
    with pytest.raises(UnknownModel, match="no model 'y'"):
        find_model("y")


@pytest.mark.parametrize("damage", ["json", "weights", "config"])
def test_a_damaged_model_is_refused(models, tmp_path, damage):
    card, weights = (models / "tiny-1.json").read_text(), (models / "tiny-1.safetensors").read_bytes()
    if damage == "json":
        card = "{"
    elif damage == "weights":
        weights = weights[: len(weights) // 2]
    else:
        card = json.dumps({**json.loads(card), "config": {"schedule": {"kind": "?"}, "network": {}}})
    (tmp_path / "m.json").write_text(card)
    (tmp_path / "m.safetensors").write_bytes(weights)
    with pytest.raises(UnknownModel, match="not a model"):
        load_model(str(tmp_path / "m"))


def test_shipped_models_have_distinct_fingerprint_bytes():
    first = [read_card(path)["fingerprint"][:2] for path in shipped_models().values()]
    assert len(first) == len(set(first))


def test_a_large_batch_is_looked_at_in_parts(model, monkeypatch):
    """Of which the last is smaller; each picture has its own gamma."""
    z, gamma = torch.randn(5, 3, 16, 16), torch.linspace(2, -6, 5)
    monkeypatch.setattr("ddpm.networks.unet.CACHED", 2 * 16 * 16)
    with torch.inference_mode():
        together = model(z, gamma)
        alone = [model(z[i : i + 1], gamma[i : i + 1]) for i in range(5)]
    for maps, single in zip(together, zip(*alone)):
        torch.testing.assert_close(maps, torch.cat(single), atol=1e-5, rtol=1e-4)
