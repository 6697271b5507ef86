from functools import partial

import numpy as np
import pytest
import torch

from bench.baselines.peers import PEERS, at_least
from bench.metrics.msssim import ms_ssim, ssim_parts
from codec import CodecError
from tests.conftest import smooth_picture


@pytest.mark.parametrize("name", list(PEERS))
def test_peers_get_at_least_the_bytes(name):
    picture = smooth_picture(64, 96)
    sizes = [len(PEERS[name](picture, q)) for q in (5, 50, 95)]
    asked = (sizes[0] + sizes[1]) // 2
    data = at_least(PEERS[name], picture, asked)
    assert asked <= len(data) <= sizes[1] * 1.05


def test_ms_ssim_is_one_for_equal_and_falls_with_noise():
    x = smooth_picture(200, 240, 1, 1).astype(float)
    noise = np.random.default_rng(0).standard_normal(x.shape)
    values = [ms_ssim(x, x + s * noise) for s in (0, 5, 20, 60)]
    assert values[0] == pytest.approx(1)
    assert values == sorted(values, reverse=True)
    with pytest.raises(ValueError, match="176"):
        ms_ssim(x[:100], x[:100])


def test_ssim_of_constant_pictures_is_the_luminance_term():
    full, cs = ssim_parts(np.full((32, 32), 100.0), np.full((32, 32), 120.0))
    c1 = (0.01 * 255) ** 2
    assert full == pytest.approx((2 * 100 * 120 + c1) / (100**2 + 120**2 + c1))
    assert cs == pytest.approx(1)


def test_a_long_measurement_goes_on_where_it_stopped(model, tmp_path, monkeypatch):
    from bench import archive

    pictures = [smooth_picture(16, 16, s) for s in range(12)]
    monkeypatch.setattr(archive, "create", partial(archive.create, store=False))
    measure = partial(archive.measure, steps=6, draws=2, check=True)
    whole = measure(model, pictures)
    with monkeypatch.context() as m:
        m.setattr(archive, "bound", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            measure(model, pictures, keep=tmp_path)
    with monkeypatch.context() as m:
        m.setattr(archive, "create", lambda *_, **__: 1 / 0)
        m.setattr(archive, "extract", lambda *_, **__: 1 / 0)
        parted = measure(model, pictures, keep=tmp_path)
    for name in ("net", "bound", "bits_per_dim", "coder"):
        assert parted[name] == pytest.approx(whole[name], abs=1e-6)
    few = measure(model, pictures, keep=tmp_path, samples=4)  # terms of five
    assert few["bound"] == pytest.approx(whole["bound"], rel=0.03)
    assert few["bound"] != whole["bound"]
    assert parted["decode_s"] > 0
    with pytest.raises(CodecError, match="another measurement"):
        measure(model, pictures[:-1], keep=tmp_path)


def test_the_chain_over_an_ideal_channel(codec):
    from bench import chain
    from bench.reporting.run import Run
    from bench.reporting.table import tables_of

    x = torch.from_numpy(np.stack([smooth_picture(16, 16, s) for s in range(6)])).permute(0, 3, 1, 2)
    rows = chain.measure(codec, x, fine=40, batch=6)
    found = Run("chain", codec.model).result(rows)
    [table] = tables_of(found)
    assert len(table.rows) == sum(r["what"] == "overhead" for r in rows) > 0
    for r in rows:
        if r["what"] == "overhead":
            assert -0.2 < r["over_same_steps"] < r["over_fine"] + 0.3 < 5
    names = [s["name"] for s in found["diagrams"][0]["series"]]
    assert names == ["ddpm-codec, trellis", "ideal", "ideal 40 steps"]
