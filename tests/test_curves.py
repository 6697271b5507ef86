import json
from itertools import pairwise

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from bench import curves, literature, results
from bench.bd import bd_rate
from bench.peers import PEERS, modern
from ddpm.model import DDPM, save_model

from .conftest import smooth_picture

LINE = np.array([(2.0 ** (p / 6), p) for p in (20, 24, 27, 31, 36)])


@pytest.mark.parametrize("factor", [0.5, 0.9, 1.0, 3.0])
def test_a_curve_of_a_constant_share_of_the_bits(factor):
    assert bd_rate(LINE * [factor, 1], LINE) == pytest.approx(100 * (factor - 1))
    assert bd_rate(LINE[::-1] * [factor, 1], LINE[1:]) == pytest.approx(100 * (factor - 1))


def test_the_mean_is_of_logarithms_over_the_psnr_in_common():
    """log(ours / theirs) = (PSNR - 20) / 10 on straight lines: from 24 to 30 its mean is 0.7."""
    at = np.arange(20, 37, 2.0)
    theirs = np.stack([2.0 ** (at / 6), at], 1)[:6]
    ours = np.stack([2.0 ** (at / 6) * np.exp((at - 20) / 10), at], 1)[2:]
    assert bd_rate(ours, theirs) == pytest.approx(100 * np.expm1(0.7))


def test_curves_that_cannot_be_compared():
    with pytest.raises(ValueError, match="at least 4"):
        bd_rate(LINE[:3], LINE)
    with pytest.raises(ValueError, match="in common"):
        bd_rate(LINE + np.array([0, 40]), LINE)


def test_published_points_are_as_printed():
    assert not curves.published({"kodim01.png"})
    vtm = curves.published(curves.KODAK)["VTM"]
    assert (round(3 * vtm[1]["bits_per_dim"], 14), vtm[1]["psnr"]) == (0.11249542236328, 28.493021754424603)
    assert all("compressai" in c["source"].lower() for c in literature.read("kodak")["curves"].values())


@pytest.mark.parametrize("name", ["JPEG", "WebP", "AVIF", "JPEG XL"])
def test_peers_files_grow_with_quality(name):
    encoder = (PEERS | modern())[name]
    picture = smooth_picture(48, 40)
    small, large = (encoder(picture, quality) for quality in (20, 90))
    assert len(small) < len(large)


@pytest.fixture
def fast(model, tmp_path):
    """For pictures that are large enough for MS-SSIM: the tables of the tiny model, a network without attention."""
    network = {"kind": "local", "widths": [8, 16], "down": [1, 1], "up": [1, 0]}
    save_model(DDPM({**model.config, "network": network}).eval(), tmp_path / "fast-1", {"coding": model.coding})
    return tmp_path / "fast-1"


def test_the_whole_run(fast, tmp_path, monkeypatch):
    monkeypatch.setattr(curves, "QUALITIES", (10, 30, 60, 90))
    for i in range(1):
        Image.fromarray(smooth_picture(176, 176, i)).save(tmp_path / f"{i}.png")
    options = ["--until", "4", "--flow", "--model", str(fast)]
    out = ["-o", str(tmp_path / "c.json"), "-p", str(tmp_path / "c.png")]
    done = CliRunner().invoke(curves.main, [str(tmp_path), *options, *out], catch_exceptions=False)
    rows = json.loads((tmp_path / "c.json").read_text())["rows"]
    found = curves.curves(rows)
    assert set(found) == {"ddpm-codec", "ddpm-codec, flow", "JPEG", "WebP", "AVIF", "JPEG XL"}
    settings = [p["setting"] for p in found["ddpm-codec"]]
    assert settings == sorted(settings, reverse=True)
    assert settings[-1] == found["ddpm-codec, flow"][-1]["setting"] <= 4
    for name, points in found.items():
        if not name.startswith("ddpm-codec"):
            assert len(points) == 4
        assert all(a["psnr"] < b["psnr"] and a["bits_per_dim"] < b["bits_per_dim"] for a, b in pairwise(points))
    assert Image.open(tmp_path / "c.png").width > 1000
    again = CliRunner().invoke(results.main, [str(tmp_path / "c.json")], catch_exceptions=False)
    assert again.output == done.output
    assert "PSNR in common" in done.output


def test_advantages_leave_out_what_cannot_be_compared():
    points = [{"bits_per_dim": r, "psnr": p} for r, p in LINE]
    other = [p | {"bits_per_dim": 2 * p["bits_per_dim"]} for p in points]
    found = {"ddpm-codec": points, "B": other, "few": other[:3], "A": points}
    assert curves.advantages(found) == {"B": pytest.approx(-50), "A": pytest.approx(0)}


def test_parts_measured_apart_are_put_together(tmp_path):
    row = {"codec": "ddpm-codec", "setting": 1.0, "bits_per_dim": 0.1, "psnr": 30.0, "ms_ssim": 0.9}
    for name, psnr in (("a", 30.0), ("b", 32.0)):
        part = results.Run("curves").result([{"file": f"{name}.png", **row, "psnr": psnr}])
        results.save(part, tmp_path / name)
    a, b, out = (str(tmp_path / name) for name in ("a", "b", "out.json"))
    done = CliRunner().invoke(results.main, [a, b, "-o", out], catch_exceptions=False)
    assert "31.00" in done.output
    assert [r["file"] for r in json.loads((tmp_path / "out.json").read_text())["rows"]] == ["a.png", "b.png"]


def test_bits_at_equal_psnr():
    points = [{"bits_per_dim": r / 100, "psnr": p + 10} for r, p in LINE]
    found = {"ddpm-codec": points, "B": [p | {"bits_per_dim": 2 * p["bits_per_dim"]} for p in points]}
    table = curves.comparison(found, {"C": points[:4]})
    assert table.columns[1] == "30 dB"
    assert [row[0] for row in table.rows] == ["ddpm-codec", "B", "C, published"]
    assert table.rows[1][-1] == "-50.0%"
    assert float(table.rows[1][1]) == pytest.approx(2 * float(table.rows[0][1]), abs=0.002)
    assert table.rows[2][-2] == "30.0 to 41.0 dB"
