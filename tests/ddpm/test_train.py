import json

import numpy as np
import pytest
import torch
from PIL import Image

from ddpm.diffusion.bound import bound, terms_for
from ddpm.diffusion.likelihood import to_unit
from ddpm.diffusion.reverse import Reverse
from ddpm.models.model import DDPM
from ddpm.training.crops import Crops, crops_for
from ddpm.training.losses import BoundLoss
from ddpm.training.muon import Muon, orthogonal
from ddpm.training.optimizer import as_matrix
from ddpm.training.presets import PRESETS, preset_config
from ddpm.training.train import Run
from tests.conftest import smooth_picture

PICTURES = [smooth_picture(24, 24, s) for s in range(6)]


def make(tmp_path, **changes):
    settings = {"compile": False, "autocast": False, "lr": 3e-3, "decay_images": 100_000, "batch": 16, **changes}
    return Run(preset_config("tiny", ["-"], settings), tmp_path)


def test_training_shortens_the_code(tmp_path):
    run = make(tmp_path, decay_images=1600, lr=1e-2)
    test = [torch.from_numpy(np.stack([p[:16, :16] for p in PICTURES])).permute(0, 3, 1, 2)]
    before = bound(terms_for(Reverse(run.model), None), test, samples=8, quiet=True)
    run.fit([Crops(PICTURES, 16)], minutes=5, quiet=True, every=0.2)
    after = bound(terms_for(Reverse(run.model), None), test, samples=8, quiet=True)
    assert after.total < before.total - 0.3
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert rows[-1]["images"] > 0
    assert {"bits_per_dim", "images_per_s", "lr"} <= set(rows[-1])


@pytest.mark.parametrize("muon", [False, True])
def test_resumes_where_it_stopped(tmp_path, muon):
    run = make(tmp_path, muon=muon)
    run.fit([Crops(PICTURES, 16)], minutes=0.02, quiet=True)
    again = make(tmp_path, muon=muon)
    assert (again.steps, again.images) == (run.steps, run.images)
    for a, b in zip(run.model.parameters(), again.model.parameters()):
        assert torch.equal(a, b)
    for key, value in run.average.items():
        assert torch.equal(value, again.average[key])
    before, after = run.optimizer.moments(), again.optimizer.moments()
    assert before.keys() == after.keys()
    assert len(before) >= len(list(run.model.parameters()))
    for key, value in before.items():
        assert torch.equal(value, after[key])
    x = torch.randn(4, 3, 16, 16)
    for r in (run, again):
        r.model(x, torch.zeros(4))[0].square().sum().backward()
        r.optimizer.step(1e-2)
    for a, b in zip(run.model.parameters(), again.model.parameters()):
        assert torch.equal(a, b)


def test_muon_moves_hidden_weights_alike_in_all_directions(tmp_path):
    """Its steps are orthogonal matrices (nearly) with the root mean square that AdamW's have."""
    run = make(tmp_path, muon=True, weight_decay=0.0)
    names = {id(p): name for name, p in run.model.named_parameters()}
    assert {names[id(p)].split(".")[1] for p in run.optimizer.hidden} >= {"down", "up", "shrink", "grow"}
    assert not [n for p in run.optimizer.hidden if "emb" in (n := names[id(p)]) or "first" in n or "last" in n]
    before = [as_matrix(p.detach()).clone() for p in run.optimizer.hidden]
    for p in run.model.parameters():
        p.grad = torch.randn_like(p)
    run.optimizer.step(0.1)
    for old, p in zip(before, run.optimizer.hidden):
        step = as_matrix(p.detach()) - old
        spectrum = torch.linalg.svdvals(step) / (0.1 * 0.2 * max(step.shape) ** 0.5)
        assert spectrum.min() > 0.3
        assert spectrum.max() < 1.4


SHAPES = [(8, 72), (8, 72), (8, 72), (40, 16), (16, 16)]


def stepped(kind, steps=4):
    """Matrices after steps of an optimizer along gradients that are the same for all."""
    start = [torch.randn(shape, generator=torch.Generator().manual_seed(i)) for i, shape in enumerate(SHAPES)]
    matrices = [torch.nn.Parameter(m.clone()) for m in start]
    optimizer = kind(matrices)
    for step in range(steps):
        for i, m in enumerate(matrices):
            m.grad = torch.randn(m.shape, generator=torch.Generator().manual_seed(100 * step + i))
        optimizer.step()
    return start, matrices


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="torch has none before 2.9")
def test_muon_is_torchs_bit_for_bit():
    ours = stepped(lambda matrices: Muon(matrices, 0.1, 0.01))[1]
    torchs = stepped(lambda matrices: torch.optim.Muon(matrices, 0.1, 0.01, adjust_lr_fn="match_rms_adamw"))[1]
    for a, b in zip(ours, torchs):
        assert torch.equal(a, b)


def test_muon_of_matrices_together_is_that_of_each():
    """Up to the rounding of bfloat16, in which products of many are summed in another order."""
    stack = torch.randn(3, 40, 16, generator=torch.Generator().manual_seed(0))
    for matrices in (stack, stack.mT):
        together = orthogonal(matrices)
        for one, m in zip(together, matrices):
            assert (one - orthogonal(m)).norm() < 0.02 * one.norm()


def test_every_preset_trains_where_torch_has_no_muon(tmp_path, monkeypatch):
    """Its optimizer, on a smaller network of the kind."""
    monkeypatch.delattr(torch.optim, "Muon", raising=False)
    network = {"kind": "local", "widths": [8, 8], "down": [1, 1], "up": [1, 0], "patch": 2}
    model = {**PRESETS["photo"]["model"], "network": network}
    config = preset_config(
        "photo", ["-"], {"compile": False, "autocast": False, "batch": 2, "crop": 16, "model": model}
    )
    config.decay_images = 4
    run = Run(config, tmp_path)
    assert run.optimizer.hidden
    run.fit([Crops(PICTURES, 16)], quiet=True)
    assert run.steps == 2


def test_crops_of_several_sizes_take_turns(tmp_path):
    """What holds no large crop gives small ones; a batch has the same number of pixels."""
    config = preset_config("tiny", ["-"], {"crop": (8, 16), "scales": (1, 2), "compile": False, "autocast": False})
    for i, picture in enumerate(PICTURES):
        Image.fromarray(picture).save(tmp_path / f"{i}.png")
    config.data, config.decay_images = [str(tmp_path)], 2 * 8 + 2 * 2
    small, large = crops_for(config, "cpu")
    assert (small.size, len(small.table)) == (8, 2 * len(PICTURES))
    assert (large.size, len(large.table)) == (16, len(PICTURES))
    run = Run(config, tmp_path / "run")
    run.fit([small, large], minutes=1, quiet=True)
    assert (run.steps, run.images) == (4, 20)


def test_simple_objective_on_the_papers_schedule(tmp_path):
    config = preset_config("tiny", ["-"], {"compile": False, "objective": "simple", "autocast": False})
    config.model = {**config.model, "schedule": {"kind": "linear-beta"}}
    run = Run(config, tmp_path)
    run.fit([Crops(PICTURES, 16)], minutes=0.02, quiet=True, every=0.1)
    assert json.loads((tmp_path / "log.jsonl").read_text().splitlines()[-1])["mse"] > 0


def test_starts_from_a_network_without_its_attention(tmp_path):
    first = make(tmp_path / "a")
    first.save()
    init = str(tmp_path / "a" / "model.safetensors")
    network = {**first.config.model["network"], "attention": []}
    second = make(tmp_path / "b", init=init, seed=1, model={**first.config.model, "network": network})
    for name, weight in second.model.state_dict().items():
        assert torch.equal(weight, first.model.state_dict()[name])
    with pytest.raises(ValueError, match="weights of the network"):
        make(tmp_path / "c", init=init, model={**first.config.model, "network": {**network, "base": 16}})


def test_focus_weighs_terms_by_their_expected_size(tmp_path):
    """Weights (mean / expected)^focus: below the plain mean by Jensen, as errors follow what is expected of them. What
    is reported is the bound either way."""
    run = make(tmp_path)
    x = to_unit(Crops(PICTURES, 16).sample(32, torch.Generator().manual_seed(0)))
    results = []
    for focus in (0.0, 0.5):
        run.config.focus = focus
        loss, terms = BoundLoss(run.config, run.model.schedule)(run.model, x, torch.Generator().manual_seed(1))
        rest = terms["l0"] + run.config.variance_weight * terms["variance_nll"]
        results.append(((loss - rest).item(), terms["diffusion"].item()))
    assert results[0][0] == pytest.approx(results[0][1], rel=1e-4)
    assert len({round(diffusion, 6) for _, diffusion in results}) == 1
    assert results[1][0] < 0.95 * results[0][0]


def test_unknown_settings_are_named():
    with pytest.raises(ValueError, match="no such setting: speed"):
        preset_config("tiny", [], {"speed": 9})


@pytest.mark.parametrize(("name", "published"), [("ddpm-cifar10", 35_746_307), ("ddpm-256", 113_673_219)])
def test_the_papers_networks_have_its_number_of_parameters(name, published):
    """And log m's three maps in the last convolution: 3 x 3 x 128 weights and a bias each."""
    with torch.device("meta"):
        network = DDPM(PRESETS[name]["model"])
    assert sum(p.numel() for p in network.parameters()) == published + 3 * (9 * 128 + 1)


def test_the_papers_configuration_trains(tmp_path):
    """A quarter as wide."""
    pictures = [smooth_picture(32, 32, s) for s in range(4)]
    config = preset_config("ddpm-cifar10", ["-"], {"batch": 1, "compile": False, "warmup": 1, "decay_images": 2})
    config.model = {**config.model, "network": {**config.model["network"], "base": 32}}
    run = Run(config, tmp_path)
    before = [p.detach().clone() for p in run.model.parameters()]
    run.fit([Crops(pictures, 32)], minutes=600, quiet=True)  # however slow the machine
    assert run.steps == 2
    assert run.model.schedule.T == 1000
    assert any(not torch.equal(a, b) for a, b in zip(before, run.model.parameters()))
    row = json.loads((tmp_path / "log.jsonl").read_text().splitlines()[-1])
    assert 0 < row["mse"] < 2
