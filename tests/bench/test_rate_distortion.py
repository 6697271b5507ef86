import json
import math
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from bench import rate_distortion
from bench.baselines.literature import published, read
from bench.baselines.peers import contenders, overhead, wavelet
from bench.harness.ideal import progressive
from bench.metrics.bd import ahead, extra_bits
from bench.reporting.rd_report import (
    FEW,
    LIMIT,
    MOST,
    PAPER,
    best,
    by_setting,
    present,
    printed_points,
    progressive_table,
    series,
)
from bench.reporting.run import Run
from codec import Target
from ddpm.diffusion.bound import bound, terms_for
from ddpm.diffusion.reverse import Reverse
from ddpm.models.load import save_model
from ddpm.models.model import DDPM
from tests.conftest import smooth_picture

PICTURES = [smooth_picture(16, 16, seed) for seed in range(4)]
GREY = np.repeat(smooth_picture(16, 16, 9, 1)[..., None], 3, 2)


def mse_of(psnr):
    return 255**2 / 10 ** (psnr / 10)


def files_row(rate, psnr, setting, images=2, header=0.02):
    rates = {"bits_per_dim": rate + header, "payload_bits_per_dim": rate, "kl_bits_per_dim": rate}
    same = {"kind": "files", "name": "mean", "setting": setting, "images": images}
    return same | rates | {"mse": mse_of(psnr), "encode_s": 1.0}


def result_of(rows, size=(32, 32)):
    return json.loads(json.dumps({"rows": rows, "settings": {"size": size}}))


def test_the_ideal_rate_is_that_of_the_bound(model):
    terms = terms_for(Reverse(model), 9)
    found = progressive(terms, PICTURES, batch=3, seed=5)
    x = torch.from_numpy(np.stack(PICTURES)).permute(0, 3, 1, 2)
    expected = bound(terms, [x], seed=5, quiet=True)
    assert found["bits_per_dim"][-1] == pytest.approx(expected.rate, rel=1e-5)
    assert found["distortion"] == pytest.approx(expected.distortion, rel=1e-5)
    assert np.diff(found["bits_per_dim"]) == pytest.approx(expected.terms, rel=1e-4)
    assert found["bits_per_dim"][0] == pytest.approx(expected.prior, rel=1e-5)
    parts = [progressive(terms, PICTURES[:1], seed=5), progressive(terms, PICTURES[1:], first=1, seed=5)]
    for key, values in found.items():
        mean = np.average([part[key] for part in parts], 0, [1, 3])
        assert mean == pytest.approx(np.array(values), rel=1e-4)


def test_the_error_is_that_of_x_hat_before_and_after_it_is_rounded():
    levels = [0.0, 3.2, 3.2]  # how far x_hat is from x at z_2, z_1, z_0, in grey levels
    nats = lambda x: torch.full((len(x),), math.log(2))  # noqa: E731
    terms = SimpleNamespace(
        reverse=SimpleNamespace(model=SimpleNamespace(device="cpu")),
        steps=[None, None],
        prior=nats,
        term=lambda k, x, eps: (nats(x), x + levels[k] / 127.5),
        distortion=lambda x, eps: (nats(x), x + levels[2] / 127.5),
    )
    found = progressive(terms, [np.full((8, 8, 3), 100, np.uint8)] * 2)
    assert found["bits_per_dim"] == pytest.approx([1, 2, 3])
    assert found["mse"] == pytest.approx([0, 3.2**2, 3.2**2], rel=1e-3)
    assert found["mse_shown"] == pytest.approx([0, 9, 9])
    assert found["distortion"] == pytest.approx(1)


def test_files_are_counted_whole_and_without_what_is_not_payload(codec):
    chosen = [*PICTURES[:2], GREY]
    rows = list(rate_distortion.files(codec, chosen, 4, ["flow"], few=1, batch=8))
    assert [(r["name"], r["images"]) for r in rows] == [("mean", 3), ("flow", 1)]
    made = [file for part in (chosen[:2], [GREY[..., 0]]) for file in codec.encode(part, Target(steps=4))]
    dims = chosen[0].size
    assert rows[0]["bits_per_dim"] * dims == pytest.approx(np.mean([8 * len(f.data) for f in made]))
    assert rows[0]["payload_bits_per_dim"] * dims == pytest.approx(np.mean([f.payload_bits for f in made]))
    assert rows[0]["kl_bits_per_dim"] * dims == pytest.approx(np.mean([f.ideal_bits for f in made]), rel=1e-3)
    assert rows[0]["mse"] == pytest.approx(np.mean([f.mse for f in made]), rel=1e-3)
    shown = [d.array.astype(float) for d in codec.decode([f.data for f in made[:1]], recon="flow")]
    assert rows[1]["mse"] == pytest.approx(np.mean([(a - p) ** 2 for a, p in zip(shown, chosen)]))


def test_files_of_the_ideal_chain_s_pictures_are_a_row_of_their_own(codec):
    rows = {r["name"]: r for r in rate_distortion.files(codec, PICTURES[:3], 4, [], few=1, batch=8, ideal=2)}
    made = codec.encode(PICTURES[:3], Target(steps=4))[:2]
    assert rows[FEW]["images"] == 2
    assert rows[FEW]["mse"] == pytest.approx(np.mean([f.mse for f in made]), rel=1e-3)
    assert rows[FEW]["bits_per_dim"] == pytest.approx(np.mean([8 * len(f.data) for f in made]) / PICTURES[0].size)


def test_an_encoder_that_claims_too_much_is_found_out(codec, monkeypatch):
    monkeypatch.setattr(rate_distortion, "decoded_errors", lambda *_: [1e4])
    with pytest.raises(RuntimeError, match="the encoder said"):
        next(rate_distortion.files(codec, PICTURES[:1], 4, [], few=1, batch=1))


def test_the_payload_of_others_is_without_a_file_of_one_pixel(monkeypatch):
    monkeypatch.setattr(rate_distortion, "QUALITIES", (20, 90))
    rows = list(rate_distortion.peers(PICTURES[:2]))
    encoders = {(p.codec, p.how): p.encode for p in contenders(speed=2) if p.best_for != "ms_ssim"}
    encoders |= {(name, ""): encode for name, encode in wavelet().items()}
    assert [(r["name"], r["how"]) for r in rows] == [name for name in encoders for _ in range(2)]
    assert {name for name, _ in encoders} >= {"JPEG", "WebP", "AVIF", "JPEG XL", "JPEG 2000"}
    for row in rows:
        few = 8 * overhead(encoders[row["name"], row["how"]], row["setting"]) / PICTURES[0].size
        assert row["payload_bits_per_dim"] == pytest.approx(row["bits_per_dim"] - few)
    for small, large in zip(rows[::2], rows[1::2]):
        assert small["bits_per_dim"] < large["bits_per_dim"]
        assert small["mse"] > large["mse"]


def test_published_points_are_as_printed():
    found, curves = published("cifar10"), read("cifar10")["curves"]
    printed = {
        "JPEG (Yang et al. 2025)": (0, 2.4004, 18.6467),
        "JPEG 2000 (Yang et al. 2025)": (4, 12.0546, 39.2544),
        "BPG (Yang et al. 2025)": (1, 0.7377, 25.0311),
        "UQDM, T = 4 (Yang et al. 2025)": (2, 2.7828, 31.175),
        "VDM, T = 20 (Yang et al. 2025)": (10, 1.9598, 27.3847),
        LIMIT: (5, 0.489, 27.3811),
    }
    for name, (i, bits_per_pixel, quality) in printed.items():
        assert (curves[name]["bits_per_pixel"][i], curves[name]["psnr"][i]) == (bits_per_pixel, quality)
        assert 3 * found[name].points[i]["bits_per_dim"] == pytest.approx(bits_per_pixel)
        assert 20 * math.log10(255 / found[name].points[i]["rmse"]) == pytest.approx(quality)
    assert found[PAPER].points[1] | {"psnr": 0} == {
        "reverse_steps": 900,
        "bits_per_dim": 0.11994,
        "rmse": 12.02277,
        "psnr": 0,
    }
    assert {name for name, c in found.items() if c.ideal} == {name for name in found if name[:3] in ("VDM", "DDP")}


def test_everything_published_has_a_source_and_is_finite():
    for kind in ("cifar10", "kodak"):
        content = read(kind)
        assert all(entry["source"] for part in ("curves", "bounds") for entry in content.get(part, {}).values())
        values = [v for c in published(kind).values() for p in c.points for v in p.values()]
        assert all(map(math.isfinite, values))


def test_results_for_other_pictures_are_averaged():
    [row] = by_setting([files_row(0.1, 20, 4, images=1), files_row(0.5, 30, 4, images=3)])
    assert row["images"] == 4
    assert row["payload_bits_per_dim"] == pytest.approx(0.4)
    assert row["mse"] == pytest.approx((mse_of(20) + 3 * mse_of(30)) / 4)


def peers_row(how, rate, psnr, setting):
    rates = {"bits_per_dim": rate, "payload_bits_per_dim": rate / 2}
    return {"kind": "peers", "name": "A", "how": how, "setting": setting, "images": 2, "mse": mse_of(psnr)} | rates


def test_another_codec_is_at_its_best_at_every_point():
    """One setting is better below 30 dB, the other above; each by half of the bits."""
    at = [20, 24, 28, 32, 36, 40]
    first = [peers_row("a", (1 if q < 30 else 2) * 2 ** (q / 6), q, q) for q in at]
    second = [peers_row("b", (2 if q < 30 else 1) * 2 ** (q / 6), q, q) for q in at]
    kept = best(by_setting(first + second), "A")
    assert [(r["how"], r["setting"]) for r in kept] == [(("a", "b")[q > 30], q) for q in at]
    ours = [files_row(2 ** (q / 6) / 2, q, q, header=0) for q in at]
    [row] = next(t for t in present(result_of([*ours, *first, *second], (8, 8)))[1] if t.name == "peers").rows
    assert row == ["against A, best of a and b", "20.0 to 40.0", "-50.0 %", "+0.0 %"]
    [row] = next(t for t in present(result_of([*ours, *first], (8, 8)))[1] if t.name == "peers").rows
    assert row[0] == "against A, a"
    assert float(row[2].split()[0]) < -60


def test_an_ideal_chain_is_compared_with_files_of_the_same_pictures():
    at = [20, 24, 28, 32, 36, 40]
    rate = [2 ** (q / 6) / 100 for q in at]
    mean = [files_row(1.5 * r, q, k, images=50, header=0) for k, (r, q) in enumerate(zip(rate, at))]
    few = [files_row(1.2 * r, q, k, images=2, header=0) | {"name": FEW} for k, (r, q) in enumerate(zip(rate, at))]
    chain = {"kind": "ideal", "name": "levels", "setting": 6, "images": 2, "bits_per_dim": rate, "distortion": 1.0}
    chain |= {key: [mse_of(q) for q in at] for key in ("mse", "mse_shown")}
    for rows, words, said in (
        ([*mean, *few, chain], "2 pictures", "+20 %"),
        ([*mean, chain], "2 pictures, beside 50 as files", "+50 %"),
    ):
        table = next(t for t in present(result_of(rows, (8, 8)))[1] if t.name == "statements")
        assert table.rows[2] == [f"bits over our ideal chain, T = 6, {words}, at 27 dB", said, said]


def test_where_curves_cross():
    """log2(rate) = p / 6 against a steeper p / 3 - 5: equal at p = 30, where the rate is 32."""
    at = np.array([18, 24, 27, 33, 36, 42.0])
    ours, theirs = np.stack([2 ** (at / 6), at], 1), np.stack([2 ** (at / 3 - 5), at], 1)
    [(a, b)] = ahead(ours, theirs)
    assert (a, b) == (pytest.approx(32, rel=2e-3), pytest.approx(2**7))
    [(a, b)] = ahead(theirs, ours)
    assert (a, b) == (pytest.approx(2), pytest.approx(32, rel=4e-3))
    assert ahead(ours, ours) == []
    assert extra_bits(ours, theirs, 36) == pytest.approx(-50)
    assert extra_bits(ours, theirs, 43) is None
    assert extra_bits([(0, 10), *ours], ours, 20) == pytest.approx(0)
    with pytest.raises(ValueError, match="in common"):
        ahead(ours, theirs + np.array([0, 30]))


def test_statements_about_a_made_up_curve():
    """Payload half as long again as VDM's ideal rate, files three times it."""
    limit = [(rate, quality) for rate, quality in printed_points(published("cifar10")[LIMIT]) if rate > 0.001]
    rows = [files_row(1.5 * rate, quality, k, header=1.5 * rate) for k, (rate, quality) in enumerate(limit)]
    tables = {t.name: t for t in present(result_of(rows))[1]}
    said = {row[0]: row[1:] for row in tables["statements"].rows}
    assert said[f"bits over {LIMIT}, at 30 dB"] == ["+200 %", "+50 %"]
    assert len([row for row in said if LIMIT in row]) == 10
    [whole, payload] = said["higher PSNR than BPG (Yang et al. 2025) at"]
    assert payload.endswith("bits/dim")
    assert whole != payload
    assert "statements" not in {t.name for t in present(result_of(rows, (16, 16)))[1]}


def test_the_paper_s_table_beside_ours():
    """Ours is the paper's with twice the rate; between its points the chain is interpolated."""
    paper = published("cifar10")[PAPER]
    steps, rate, error = ([p[key] for p in paper.points[::-1]] for key in ("reverse_steps", "bits_per_dim", "rmse"))
    k = np.arange(1, 1001)
    row = {
        "setting": 1000,
        "bits_per_dim": (2 * np.interp(k, steps, rate)).tolist(),
        "mse": (np.interp(k, steps, error) ** 2).tolist(),
    }
    table = progressive_table(row, paper)
    assert table.rows[0] == ["1000", "3.55162", "0.95", "1.77581", "0.95", "3.55162"]
    assert table.rows[1][:5] == ["900", "0.23988", "12.02", "0.11994", "12.02"]
    assert float(table.rows[1][5]) == pytest.approx(0.23988, rel=1e-3)
    assert len(progressive_table(row | {"setting": 1000}, None).columns) == 3


def test_long_curves_are_thinned_with_their_ends_kept():
    curve = series("a", enumerate(range(5000)), "line")
    assert (curve.x[0], curve.x[-1], len(curve.x)) == (0, 4999, MOST)
    assert all(a < b for a, b in pairwise(curve.x))


@pytest.fixture
def folder(tmp_path):
    for i, picture in enumerate(PICTURES[:3]):
        Image.fromarray(picture).save(tmp_path / f"{i}.png")
    return tmp_path


def run(*options):
    done = CliRunner().invoke(rate_distortion.main, [str(o) for o in options], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_the_whole_run(folder, models, monkeypatch):
    monkeypatch.setattr(rate_distortion, "QUALITIES", (20, 90))
    out = folder / "rd.json"
    options = [
        "--steps",
        "4,6",
        "--recon",
        "mean,flow",
        "--ideal",
        5,
        "--recon-images",
        1,
        "--device",
        "cpu",
        "--images",
        2,
    ]
    said = run(folder, "--model", "tiny-1", *options, "-o", out, "-p", folder / "rd.png")
    result = json.loads(out.read_text())
    diagrams, tables = present(result)
    assert [d.title for d in diagrams] == [
        "PSNR over rate",
        "RMSE over rate",
        "Rate over reverse steps",
        "Distortion over reverse steps",
    ]
    assert json.loads(json.dumps([d.to_json() for d in diagrams])) == result["diagrams"]
    assert {t.name for t in tables} >= {"files", "progressive, T = 5", "bound"}
    assert all(t.name in said for t in tables)
    assert not any("et al." in s.name for d in diagrams for s in d.series)
    chains = {r["name"]: r for r in result["rows"] if r["kind"] == "ideal"}
    assert [(len(r["mse"]), r["setting"]) for r in chains.values()][1] == (5, 5)
    assert chains["own steps"]["bits_per_dim"][0] == 0
    assert Image.open(folder / "rd.png").width > 1000


def test_a_model_without_coding_tables_has_only_its_ideal_chain(folder, model, monkeypatch):
    monkeypatch.setattr(rate_distortion, "QUALITIES", (50,))
    save_model(DDPM(model.config).eval(), folder / "bare-1", {})
    run(folder / "0.png", "--model", folder / "bare-1", "--ideal", 3, "--device", "cpu", "-o", folder / "rd.json")
    rows = json.loads((folder / "rd.json").read_text())["rows"]
    assert {(r["kind"], r["name"]) for r in rows if r["kind"] != "peers"} == {("ideal", "levels")}


def test_others_can_be_measured_anew_beside_what_is_stored(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(rate_distortion, "QUALITIES", (20, 90))
    old = [files_row(0.5, 30, 4, images=3), peers_row("old", 9.0, 30, 20)]
    stored = Run("rate_distortion", data=folder, size=[16, 16], images=3).result(old)
    (folder / "old.json").write_text(json.dumps(stored))
    run(folder, "--ours", folder / "old.json", "-o", folder / "new.json")
    new = json.loads((folder / "new.json").read_text())
    assert new["rows"][0] == json.loads(json.dumps(old[0]))
    assert {r["name"] for r in new["rows"][1:]} >= {"JPEG", "AVIF"}
    assert all(r["images"] == 3 for r in new["rows"])
    assert new["others"]["versions"]["avif"]
    (folder / "old.json").write_text(json.dumps(stored | {"settings": stored["settings"] | {"images": 4}}))
    done = CliRunner().invoke(rate_distortion.main, [str(folder), "--ours", str(folder / "old.json")])
    assert done.exit_code == 2
    assert "for these pictures" in done.output


def test_pictures_of_several_sizes_are_refused(folder, models):
    Image.fromarray(smooth_picture(8, 16)).save(folder / "3.png")
    done = CliRunner().invoke(rate_distortion.main, [str(folder), "--model", "tiny-1", "--device", "cpu"])
    assert "not of one size" in done.output
    wrong = CliRunner().invoke(rate_distortion.main, [str(folder), "--recon", "mean,median"])
    assert "unknown: median" in wrong.output
