import json
from itertools import pairwise

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from bench import curves, results
from bench.baselines import literature
from bench.baselines.peers import PEERS, modern
from bench.metrics.bd import bd_rate, lower_envelope
from bench.reporting.output import save
from bench.reporting.run import Run
from bench.reporting.table import tables_of
from ddpm.models.load import save_model
from ddpm.models.model import DDPM
from tests.conftest import smooth_picture

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


def test_the_mean_of_a_part_of_the_psnr_in_common():
    dear = LINE * np.where(LINE[:, 1] > 30, 2, 1)[:, None] ** [1, 0]
    assert bd_rate(LINE, dear, (20, 24)) == pytest.approx(0, abs=1e-6)
    assert bd_rate(LINE, dear, (33, 36)) < -40
    with pytest.raises(ValueError, match="in common"):
        bd_rate(LINE, dear, (33, 37))


def test_what_no_other_curve_undercuts():
    cheap = LINE[1:4] * [0.5, 1]
    single = [(0.001, 22.0)]
    assert lower_envelope([LINE, cheap, single]) == [(0, 0), (2, 0), (1, 0), (1, 1), (1, 2), (0, 4)]
    assert lower_envelope([LINE]) == [(0, k) for k in range(5)]


def test_curves_that_cannot_be_compared():
    with pytest.raises(ValueError, match="at least 4"):
        bd_rate(LINE[:3], LINE)
    with pytest.raises(ValueError, match="in common"):
        bd_rate(LINE + np.array([0, 40]), LINE)


def test_published_points_are_as_printed():
    assert not curves.published({"kodim01.png"})
    vtm = curves.published(curves.KODAK)["VTM"]
    assert (round(3 * vtm[1]["bits_per_dim"], 14), vtm[1]["psnr"]) == (0.11249542236328, 28.493021754424603)
    large = literature.read("kodak")["curves"]["HPCM-Large (2025)"]
    assert (large["bits_per_pixel"][0], large["psnr"][-1]) == (0.0951, 37.748)
    assert all("github.com/" in c["source"] for c in literature.read("kodak")["curves"].values())
    brief, every = curves.published(curves.KODAK, brief=True), curves.published(curves.KODAK)
    assert set(brief) < set(every)


@pytest.mark.parametrize("name", ["JPEG", "WebP", "AVIF", "JPEG XL"])
def test_peers_files_grow_with_quality(name):
    encoder = (PEERS | modern())[name]
    picture = smooth_picture(48, 40)
    small, large = (encoder(picture, quality) for quality in (20, 90))
    assert len(small) < len(large)


@pytest.fixture
def fast(model, tmp_path):
    """For pictures that are large enough for MS-SSIM: the tables of the tiny model, a network without attention."""
    network = {"base": 8, "multipliers": [1, 2], "blocks": [1, 1], "attention": [], "groups": 4}
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
        if name in ("WebP", "AVIF"):  # of one setting by PSNR
            assert len(points) == 4
        assert all(a["psnr"] < b["psnr"] and a["bits_per_dim"] < b["bits_per_dim"] for a, b in pairwise(points))
    assert Image.open(tmp_path / "c.png").width > 1000
    again = CliRunner().invoke(results.main, [str(tmp_path / "c.json")], catch_exceptions=False)
    assert again.stdout == done.stdout
    assert done.stderr.strip() == f"wrote {tmp_path / 'c.json'}, {tmp_path / 'c.png'}"
    assert "PSNR in common" in done.output


def point(how, rate, psnr, similarity=0.9, **more):
    return {"file": "a", "codec": "A", "how": how, "bits_per_dim": rate, "psnr": psnr, "ms_ssim": similarity} | more


def test_a_codec_is_at_its_best_for_each_measure():
    """Two settings; the second has fewer bits from 26 dB on. A third is made for MS-SSIM alone."""
    at = (20, 24, 28, 32, 36)
    rows = [point("a", 2 ** (q / 6), q, 1 - 2.0 ** (-q / 6), setting=q) for q in at]
    rows += [point("b", 2 ** (q / 6) * (2 if q < 26 else 0.5), q, 1 - 2.0 ** (-q / 6), setting=q) for q in at]
    rows += [point("c", 0.1 * 2 ** (q / 6), q, 1 - 2.0 ** (-q / 6), setting=q, best_for="ms_ssim") for q in at]
    assert [p["how"] for p in curves.curves(rows)["A"]] == ["a", "a", "b", "b", "b"]
    assert {p["how"] for p in curves.curves(rows, "ms_ssim")["A"]} == {"c"}
    ours = [r | {"codec": "ddpm-codec"} for r in rows[:5]]
    tables = {t.name: t for t in tables_of(Run("curves").result(ours + rows))}
    assert tables["comparison"].rows[1][0] == "A, best of a and b"
    assert len(tables["points"].rows) == 20


def test_bd_rates_of_parts_of_the_range():
    """Half of the bits below 32 dB, all of them above."""
    at = np.arange(28.0, 40, 0.5)
    points = [{"bits_per_dim": 2 ** (q / 6), "psnr": q} for q in at]
    other = [p | {"bits_per_dim": p["bits_per_dim"] * (2 if p["psnr"] <= 32 else 1)} for p in points[:-4]]
    [table] = curves.by_range({"ddpm-codec": points, "B": other}, {})
    assert table.columns[:5] == ["bits of ours against", "PSNR in common", "in all of it", "29 to 32 dB", "32 to 35 dB"]
    [row] = table.rows
    assert row[1] == "28.0 to 37.5 dB"
    assert row[3] == "-50.0%"
    assert float(row[5].strip("%")) == pytest.approx(0, abs=0.2)
    assert row[6:] == ["", ""]


def test_small_pictures_have_no_ms_ssim(fast, tmp_path, monkeypatch):
    monkeypatch.setattr(curves, "QUALITIES", (10, 30, 60, 90))
    (tmp_path / "set").mkdir()
    for name, channels in (("a", 3), ("b", 1)):
        Image.fromarray(smooth_picture(64, 48, 1, channels)).save(tmp_path / "set" / f"{name}.png")
    out = tmp_path / "c.json"
    options = [str(tmp_path / "set"), "--until", "4", "--flow", "--model", str(fast), "-o", str(out)]
    done = CliRunner().invoke(curves.main, options, catch_exceptions=False)
    assert done.exit_code == 0
    result = json.loads(out.read_text())
    assert all(r["ms_ssim"] is None for r in result["rows"])
    assert len(result["diagrams"]) == 1
    assert {row[-1] for row in {t.name: t for t in tables_of(result)}["points"].rows} == {""}
    grey = next(r for r in result["rows"] if (r["file"], r["codec"]) == ("b.png", "WebP"))
    assert grey["bits_per_dim"] == 8 * grey["bytes"] / (64 * 48)


def test_others_are_measured_anew_beside_ours(tmp_path, monkeypatch):
    monkeypatch.setattr(curves, "QUALITIES", (10, 30, 60, 90))
    Image.fromarray(smooth_picture(48, 40)).save(tmp_path / "a.png")
    ours = [point(None, 0.1 * k, 20.0 + k, file="a.png", codec="ddpm-codec", setting=-k) for k in range(1, 6)]
    old = [point("old", 0.1, 20.0, file="a.png", codec="JPEG", setting=10)]
    stored, out = tmp_path / "old.json", tmp_path / "new.json"
    save(Run("curves", until=-1.0).result(ours + old), stored)
    options = ["--ours", str(stored), "-o", str(out)]
    done = CliRunner().invoke(curves.main, [str(tmp_path), *options], catch_exceptions=False)
    assert done.exit_code == 0
    new = json.loads(out.read_text())
    assert [r for r in new["rows"] if r["codec"] == "ddpm-codec"] == json.loads(json.dumps(ours))
    ways = {(r["codec"], r.get("how")) for r in new["rows"]}
    assert ways >= {
        ("JPEG", "4:2:0"),
        ("JPEG", "4:4:4"),
        ("AVIF", "4:4:4, speed 4, tune psnr"),
        ("JPEG XL", "effort 9"),
    }
    assert ("JPEG", "old") not in ways
    assert new["settings"] == {"until": -1.0}
    assert new["others"]["versions"]["avif"]
    Image.fromarray(smooth_picture(48, 40)).save(tmp_path / "b.png")
    done = CliRunner().invoke(curves.main, [str(tmp_path), *options])
    assert (done.exit_code, "for these pictures" in done.output) == (2, True)


def test_ours_are_measured_anew_beside_others(fast, tmp_path):
    Image.fromarray(smooth_picture(64, 48)).save(tmp_path / "a.png")
    ours = [point(None, 0.1, 20.0, file="a.png", codec="ddpm-codec", setting=-1)]
    theirs = [point("best", 0.1 * k, 20.0 + k, file="a.png", codec="JPEG", setting=k) for k in range(1, 6)]
    stored, out = tmp_path / "old.json", tmp_path / "new.json"
    save(Run("curves").result(ours + theirs), stored)
    options = ["--until", "4", "--model", str(fast), "-o", str(out)]
    done = CliRunner().invoke(curves.main, [str(tmp_path), "--others", str(stored), *options], catch_exceptions=False)
    assert done.exit_code == 0
    new, old = json.loads(out.read_text()), json.loads(stored.read_text())
    assert [r for r in new["rows"] if r["codec"] != "ddpm-codec"] == json.loads(json.dumps(theirs))
    mine = [r for r in new["rows"] if r["codec"] == "ddpm-codec"]
    assert mine
    assert not any(r["setting"] == -1 for r in mine)
    assert new["others"] == {key: old[key] for key in ("device", "cores", "seconds", "versions")}
    done = CliRunner().invoke(curves.main, [str(tmp_path), "--others", str(stored), "--ours", str(stored)])
    assert (done.exit_code, "nothing to measure" in done.output) == (2, True)


def test_advantages_leave_out_what_cannot_be_compared():
    points = [{"bits_per_dim": r, "psnr": p} for r, p in LINE]
    other = [p | {"bits_per_dim": 2 * p["bits_per_dim"]} for p in points]
    found = {"ddpm-codec": points, "B": other, "few": other[:3], "A": points}
    assert curves.advantages(found) == {"B": pytest.approx(-50), "A": pytest.approx(0)}


def test_parts_measured_apart_are_put_together(tmp_path):
    row = {"codec": "ddpm-codec", "setting": 1.0, "bits_per_dim": 0.1, "psnr": 30.0, "ms_ssim": 0.9}
    for name, psnr in (("a", 30.0), ("b", 32.0)):
        part = Run("curves").result([{"file": f"{name}.png", **row, "psnr": psnr}])
        save(part, tmp_path / name)
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
