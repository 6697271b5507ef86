import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from codec import Codec, Target
from codec.calibration.release import release
from codec.calibration.tables import fit_bands, step_costs
from codec.lossy.basis import Cosines
from codec.lossy.tables import CodingTables, Tables
from ddpm.diffusion.bands import RINGS
from ddpm.models.load import load_model, save_model
from ddpm.models.model import DDPM
from ddpm.models.store import read_card
from ddpm.training.presets import PRESETS
from tests.conftest import smooth_picture


def test_the_network_works_at_a_smaller_size_where_that_costs_hardly_more(model):
    batch = torch.from_numpy(np.stack([smooth_picture(32, 32, s) for s in range(6)])).permute(0, 3, 1, 2)
    tables = replace(CodingTables.of_model(model), levels=tuple(np.linspace(5, -9, 15).tolist()))
    whole, smaller = (step_costs(model, tables, [batch], scales=s, quiet=True) for s in ((1,), (1, 2, 4)))
    assert set(whole.scales) == {1}
    assert smaller.scales[0] == 1  # nothing is looked at there
    assert max(smaller.scales[1:5]) == 4
    assert smaller.scales[-3:] == [1, 1, 1]
    spent, least = (np.cumsum(costs.kl.mean(0)) for costs in (smaller, whole))
    assert (spent[3:] < 1.02 * least[3:]).all()
    assert len(smaller.bands) == len(smaller.scales) == len(tables.levels)


@pytest.mark.parametrize("grey", [False, True])
def test_bands_and_their_powers_are_found(grey):
    """Errors drawn with variances that are known powers of m: found again, with the KL 1/2 ln(1 + r) that they have."""
    rings = RINGS if grey else 3 * RINGS
    generator = torch.Generator().manual_seed(0)
    ones = ((1.0,) * rings,)
    plain = CodingTables((0.0,) * 3, 1.0, 8, 1.0, 8, 0, colour=Tables(bands=ones, powers=ones))
    plain = replace(plain, grey=plain.colour)
    step = Cosines(plain, (64, 96), grey).step(1.0, 0.3)
    powers = [(0.5, 1.0, 1.25)[i % 3] for i in range(rings)]
    bands = [0.5 + i / rings for i in range(rings)]
    true = Tables(bands=(tuple(bands),), powers=(tuple(powers),))
    truth = Cosines(replace(plain, colour=true, grey=true), (64, 96), grey)
    blocks = torch.rand(4, 1, 8, 12, generator=generator).pow(2).add(0.05)
    m = blocks.repeat_interleave(8, 2).repeat_interleave(8, 3).expand(-1, 3, -1, -1)
    r = truth.extra_variance(0, step.gain, m)
    x = truth.picture(r.sqrt() * torch.randn(r.shape, generator=generator), step.std_q / step.x_coef)
    kl, got, exponents = fit_bands(step, 0, [x], [(torch.zeros_like(x), m)], [Cosines(plain, (64, 96), grey)])
    assert sum(p == q for p, q in zip(powers, exponents)) > 0.8 * rings
    same = [i for i in range(rings) if powers[i] == exponents[i] and i % RINGS > 1]
    np.testing.assert_allclose(np.array(got)[same], np.array(bands)[same], rtol=0.15)
    np.testing.assert_allclose(kl, (0.5 * torch.log1p(r)).mean((1, 2, 3)) / math.log(2), rtol=0.05)


def test_a_model_made_from_the_one_beside_it_shares_its_weights(models, tmp_path):
    for suffix in (".safetensors", ".json"):
        (tmp_path / f"own-1{suffix}").write_bytes((models / f"tiny-1{suffix}").read_bytes())
    for i in range(3):
        Image.fromarray(smooth_picture(32, 32, i)).save(tmp_path / f"{i}.png")
    settings = {"steps": 6, "surplus": 1.0, "memory": 4, "min_bits": 8}
    for output in (tmp_path / "own-2", tmp_path / "elsewhere" / "own-2"):
        source = str(tmp_path / "own-1")
        release(source, [str(tmp_path)], output, tile=None, images=3, crop=32, settings=dict(settings), quiet=True)
    assert not (tmp_path / "own-2.safetensors").exists()
    assert read_card(tmp_path / "own-2")["fingerprint"] == read_card(tmp_path / "elsewhere" / "own-2")["fingerprint"]
    assert CodingTables.of_model(load_model(str(tmp_path / "own-2"))).memory == 4


def test_networks_of_kind_local_are_made_exact(tmp_path):
    """Whenever they get tables, and again only if asked for."""
    torch.manual_seed(0)
    network = {"kind": "local", "widths": [8, 12], "down": [1, 1], "up": [1, 0]}
    model = DDPM({**PRESETS["tiny"]["model"], "network": network})
    for p in model.parameters():
        if not p.any():
            torch.nn.init.normal_(p, std=0.05)
    save_model(model, tmp_path / "local-1", {})
    for i in range(2):
        Image.fromarray(smooth_picture(24, 24, i)).save(tmp_path / f"{i}.png")
    how = {"tile": None, "images": 2, "crop": 24, "quiet": True}
    settings = {"steps": 6, "surplus": 1.05, "memory": 8, "min_bits": 12, "thin": None, "block": 8, "scales": (1,)}
    pictures, path = [str(tmp_path / f"{i}.png") for i in range(2)], str(tmp_path / "local-2")
    release(str(tmp_path / "local-1"), pictures, path, settings=settings, **how)
    codec, picture = Codec(path), smooth_picture(17, 22, 5)
    assert np.array_equal(
        codec.decode([codec.encode(picture, Target(lossless=True), store=False).data])[0].array, picture
    )
    release(path, pictures, str(tmp_path / "local-3"), settings=None, **how)
    made = [(tmp_path / f"local-{i}.exact.safetensors").read_bytes() for i in (2, 3)]
    assert made[0] == made[1]
    assert Codec(str(tmp_path / "local-3")).tables.of(False).context is not None
