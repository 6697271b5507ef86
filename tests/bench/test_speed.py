import json

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from bench import speed
from bench.harness.jobs import Bpd, Encode, Train, moves, pictures, preset_of
from bench.harness.watch import Watch
from bench.metrics.flops import SIDE, flops_per_evaluation
from bench.reporting.run import presented
from bench.reporting.table import tables_of
from codec.channel import simulation, viterbi
from codec.lossless import pixels as lossless
from ddpm.models.model import DDPM

CPU = torch.device("cpu")


class Work:
    """Calls that nest, on a clock that goes by one with every call of ``tick``."""

    def outer(self):
        tick(2)
        self.inner()
        tick(1)

    def inner(self):
        tick(4)


now = 0.0


def tick(seconds):
    global now
    now += seconds


@pytest.fixture
def clock(monkeypatch):
    monkeypatch.setattr("bench.harness.watch.time.perf_counter", lambda: now)


def test_nested_time_counts_once(clock):
    with Watch(CPU) as watch:
        watch.over(Work, "outer", "a")
        watch.over(Work, "inner", "b")
        with watch.part("rest"):
            tick(8)
            Work().outer()
    assert watch.seconds == {"rest": 8, "a": 3, "b": 4}
    assert watch.total == 15


def test_a_part_within_itself_counts_once(clock):
    with Watch(CPU) as watch:
        watch.over(Work, "outer", "a")
        watch.over(Work, "inner", "a")
        with watch.part("rest"):
            Work().outer()
    assert watch.seconds == {"rest": 0, "a": 7}


def test_functions_are_restored_after_errors():
    kept = {"outer": Work.outer, "all_threads": viterbi.all_threads}
    assert "to" not in vars(torch.Tensor)
    watch = Watch(CPU)

    def failing():
        with watch, watch.part("rest"):
            watch.over(Work, "outer", "a", note=lambda _: 1 / 0)
            watch.over(viterbi, "all_threads", "b")
            watch.over(torch.Tensor, "to", "c")
            assert Work.outer is not kept["outer"]
            Work().outer()

    with pytest.raises(ZeroDivisionError):
        failing()
    assert kept == {"outer": Work.outer, "all_threads": viterbi.all_threads}
    assert "to" not in vars(torch.Tensor)
    assert watch.open == []


def test_other_devices_are_told_from_other_types():
    x = torch.zeros(2)
    assert moves(x, "meta")
    assert moves(x, device=torch.device("meta"))
    assert moves(x, torch.zeros(1, device="meta"))
    assert not moves(x, torch.float64)
    assert not moves(x, "cpu", torch.float64)
    assert not moves(x, memory_format=torch.preserve_format)


def test_operations_of_training_are_three_times_those_of_an_evaluation(model):
    """Of every layer but the first: its input asks for no gradient."""
    one = flops_per_evaluation(model, 16, 16)
    assert 2 * one < flops_per_evaluation(model, 32, 16) < 2.5 * one  # attention grows faster than pictures
    assert 2.5 * one < flops_per_evaluation(model, 16, 16, True) < 3 * one


def test_pictures_of_a_batch_differ():
    found = pictures(32, 5)
    assert found.shape == (5, 32, 32, 3)
    assert len({p.tobytes() for p in found}) == 5
    assert min(np.ptp(p.astype(int)) for p in found) > 20


def test_all_jobs_of_a_model(models, tmp_path, monkeypatch):
    monkeypatch.setitem(SIDE, "cpu", 64)
    kept = DDPM.forward, simulation.TrellisUse.decode, lossless.encode
    out = tmp_path / "speed.json"
    asked = ["--model", "tiny", "--sizes", "8,16,32", "--batches", "1,3", "--most", "600", "--rate", "0.5,0"]
    how = ["--repeats", "1", "--device", "cpu", "-o", str(out), "-p", str(tmp_path / "speed.png")]
    said = CliRunner().invoke(speed.main, asked + how, catch_exceptions=False).stdout
    result = json.loads(out.read_text())
    rows = result["rows"]
    combinations = [(8, 1), (8, 3), (16, 1)]  # of sizes up to the model's own, batches of at most 600 pixels
    assert {(r["size"], r["batch"]) for r in rows} == {*combinations, (16, 8)}
    assert len(rows) == len(combinations) * 5 + 1
    for r in rows:
        assert sum(r["shares"].values()) == pytest.approx(1)
        assert all(0 <= share <= 1 for share in r["shares"].values())
        assert r["shares"]["network"] > 0
        assert (r["shares"]["convolutions"] > 0) == (r["what"] in ("encode", "decode"))
        assert (r["shares"]["channel"] > 0) == (r["what"] in ("encode", "decode"))
        assert (r["shares"]["entropy"] > 0) == (r.get("rate") == 0)
        assert r["shares"]["transfers"] == 0
        assert r["share_of_peak"] == pytest.approx(r["tflop_per_s"] / r["peak_tflop_per_s"])
        assert r["megapixels_per_s"] == pytest.approx(r["size"] ** 2 / 1e6 / r["seconds"])
        flop = r["gflop_per_look"] * r["looks"] * 1e9
        assert r["tflop_per_s"] == pytest.approx(flop / r["seconds"] / 1e12)
    assert [r["looks"] for r in rows if r["what"] == "bpd"] == [5] * 3
    assert Image.open(tmp_path / "speed.png").width > 500
    assert "encode, lossless" in said
    assert presented(result) == result
    assert {d["title"] for d in result["diagrams"]} >= {"encode, 0.5 bits/dim", "bpd", "train"}
    assert kept == (DDPM.forward, simulation.TrellisUse.decode, lossless.encode)


def test_results_are_presented_from_json_alone():
    row = {
        "model": "m-1", "device": "a", "threads": 1, "what": "encode", "size": 32, "batch": 1, "rate": 0.2,
        "arithmetic": "float32", "repeats": 3, "seconds": 0.5, "megapixels_per_s": 0.002, "looks": 9.0,
        "shares": {"network": 0.5, "channel": 0.25, "entropy": 0.0, "transfers": 0.0, "rest": 0.25},
        "gflop_per_look": 0.1, "tflop_per_s": 0.01, "peak_tflop_per_s": 0.1, "share_of_peak": 0.1,
    }  # fmt: skip
    rows = [row, row | {"size": 64, "megapixels_per_s": 0.004}, row | {"device": "b", "peak_tflop_per_s": 60.0}]
    result = presented({"bench": "speed", "rows": rows})
    [diagram] = result["diagrams"]
    assert [s["name"] for s in diagram["series"]] == ["m-1, batch 1, a, 1 thread", "m-1, batch 1, b, 1 thread"]
    assert diagram["series"][0]["x"] == [32, 64]
    tables = {t.name: t for t in tables_of(result)}
    assert tables["peaks"].rows == [["a, 1 thread", "float32", "0.1"], ["b, 1 thread", "float32", "60"]]
    assert tables["shares of time, %"].rows[0][-6:] == ["", "50.0", "25.0", "0.0", "0.0", "25.0"]
    assert tables["speed"].rows[0][-2:] == ["10.0%", "20.0%"]


def test_bfloat16_is_only_said_of_networks_that_compute_in_it(model):
    assert Encode(model, 16, 1, 0.2).arithmetic in ("uint8", "float32", "float64")
    assert Bpd(model, 16, 1, True).arithmetic == "bfloat16"
    assert Train("tiny", CPU, False).arithmetic == "bfloat16"


def test_presets_by_the_names_of_models():
    cpu, gpu = map(torch.device, ("cpu", "cuda"))
    assert [preset_of(name, cpu) for name in ("photo-10", "cifar10", "else-1")] == ["photo", "cifar10", None]
    assert [preset_of(name, gpu) for name in ("photo-10", "cifar10", "else-1")] == ["photo-gpu", "cifar10-gpu", None]


@pytest.mark.parametrize("wrong", [["--what", "paint"], ["--sizes", "a"], ["--sizes", "64"], ["--model", "none"]])
def test_what_cannot_be_measured_is_told(models, wrong):
    arguments = ["--model", "tiny", "--what", "bpd", "--device", "cpu", *wrong]
    done = CliRunner().invoke(speed.main, arguments)
    assert done.exit_code == 2
    assert done.output.startswith("error: ")
