"""The bpd command, and work shared out among processes."""

import json
import os
import socket
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from codec import Codec, Target
from codec.images.pictures import read_picture
from tests.cli.conftest import exit_code
from tests.conftest import smooth_picture


@pytest.fixture
def pictures(tmp_path, models):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i in range(5):
        Image.fromarray(smooth_picture(16, 16, i)).save(folder / f"{i}.png")
    Image.fromarray(smooth_picture(16, 24, 9)).save(folder / "wide.png")
    return folder


def run(capsys, monkeypatch, *args):
    code = exit_code(monkeypatch, *args)
    out = capsys.readouterr()
    return code, out.out, out.err


def test_json_has_every_term(capsys, monkeypatch, pictures):
    code, out, _ = run(capsys, monkeypatch, "bpd", pictures, "--model", "tiny-1", "--steps", 12, "--terms", "--json")
    found = json.loads(out)
    assert code == 0
    assert {"total", "rate", "distortion", "prior", "stderr", "images", "steps", "terms"} <= set(found)
    assert (found["images"], found["steps"], len(found["terms"])) == (6, 12, 13)
    assert sum(t["bits_per_dim"] for t in found["terms"]) == pytest.approx(found["total"])
    assert found["total"] == pytest.approx(found["rate"] + found["distortion"])


def test_monte_carlo_says_so(capsys, monkeypatch, pictures):
    code, out, _ = run(capsys, monkeypatch, "bpd", pictures, "--model", "tiny-1", "--samples", 3)
    assert code == 0
    assert "Monte Carlo, 3 terms" in out
    assert "T = infinity" in out


def test_a_picture_of_the_terms(capsys, monkeypatch, pictures, tmp_path):
    target = tmp_path / "terms.png"
    args = ("bpd", pictures / "0.png", "--model", "tiny-1", "--steps", 9, "--terms", "--plot", target, "--quiet")
    assert run(capsys, monkeypatch, *args)[0] == 0
    assert Image.open(target).size[0] > 500
    code, _, err = run(capsys, monkeypatch, *args)
    assert (code, "exists" in err) == (2, True)
    assert run(capsys, monkeypatch, *args, "--force")[0] == 0


def test_ode_on_the_command_line(capsys, monkeypatch, pictures):
    args = ("bpd", pictures / "0.png", "--model", "tiny-1", "--ode", "--tolerance", 0.1, "--json", "--quiet")
    code, out, _ = run(capsys, monkeypatch, *args)
    assert code == 0
    assert np.isfinite(json.loads(out)["total"])


@pytest.mark.parametrize(
    "wrong",
    [
        ["--terms"],  # the limit has none
        ["--steps", "1"],
        ["--steps", "few"],
        ["--variance", "beta"],  # no limit
        ["--plot", "x.png"],
        ["--ode", "--steps", "20"],
        ["--model", "nobody"],
        ["--tile", "17"],
    ],
)
def test_bad_questions_get_one_line(capsys, monkeypatch, pictures, wrong):
    code, out, err = run(capsys, monkeypatch, "bpd", pictures, "--model", "tiny-1", "--quiet", *wrong)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1


def test_missing_data(capsys, monkeypatch, models, tmp_path):
    for name in ("notes.txt", "notes.png"):
        (tmp_path / name).write_text("hello")
    Image.fromarray(smooth_picture(16, 16)).save(tmp_path / "whole.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:200])
    said = {
        "nothing": "No such file or directory",
        "notes.txt": "not an image",
        "notes.png": "not an image",
        "cut.png": "",
    }
    for name, words in said.items():
        code, _, err = run(capsys, monkeypatch, "bpd", tmp_path / name, "--model", "tiny-1", "--quiet")
        assert code == 2
        assert err.startswith(f"error: {tmp_path / name}: {words}")
        assert err.count("\n") == err.count(name) == 1
    code, _, err = run(capsys, monkeypatch, "bpd", tmp_path / "whole.png", "--model", "tiny-1", "--quiet", "--terms")
    assert (code, err.count("\n")) == (2, 1)
    assert "--steps T" in err
    monkeypatch.setattr("ddpm.images.data.MAX_PIXELS", 100)
    code, _, err = run(capsys, monkeypatch, "bpd", tmp_path / "whole.png", "--model", "tiny-1", "--quiet")
    assert (code, err.count("\n")) == (2, 1)


def test_the_ideal_channel_sends_what_bpd_says(capsys, monkeypatch, pictures):
    """On the tiny model; bench.agreement measures it on the shipped ones."""
    _, out, _ = run(capsys, monkeypatch, "bpd", pictures, "--model", "tiny-1", "--steps", "codec", "--json", "--quiet")
    says = json.loads(out)["rate"]
    names = sorted(map(str, pictures.iterdir()))
    args = ("encode", *names, "--model", "tiny-1", "--channel", "ideal", "--json", "--quiet")
    code, out, _ = run(capsys, monkeypatch, *args)
    rows = json.loads(out)
    assert code == 0
    assert [row["file"] for row in rows] == names
    assert np.mean([row["ideal_bits_per_dim"] for row in rows]) == pytest.approx(says, rel=0.05)
    assert not list(pictures.glob("*.ddpm"))


def test_what_the_system_refuses_anywhere_is_one_line(capsys, monkeypatch, pictures):
    def full(*_, **__):
        raise OSError(28, "No space left on device", "somewhere")

    monkeypatch.setattr("codec.cli.bpd.measured", full)
    code, out, err = run(capsys, monkeypatch, "bpd", pictures, "--model", "tiny-1", "--quiet")
    assert (code, out, err) == (2, "", "error: somewhere: No space left on device\n")


def torchrun(*args, processes=2):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    base = {k: v for k, v in os.environ.items() if k not in ("RANK", "WORLD_SIZE", "LOCAL_RANK")}
    base |= {"OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    command = [sys.executable, "-m", "codec", *map(str, args)]
    jobs = [
        subprocess.Popen(
            command,
            env={**base, "RANK": str(r), "LOCAL_RANK": str(r), "WORLD_SIZE": str(processes)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for r in range(processes)
    ]
    done = [job.communicate(timeout=240) for job in jobs]
    assert all(job.returncode == 0 for job in jobs), done
    return [out for out, _ in done]


def test_two_processes_measure_what_one_does(capsys, monkeypatch, pictures):
    args = ("bpd", pictures, "--model", "tiny-1", "--steps", 8, "--terms", "--json", "--quiet")
    _, alone, _ = run(capsys, monkeypatch, *args)
    first, second = torchrun(*args)
    alone, together = json.loads(alone), json.loads(first)
    assert second == ""
    assert together["total"] == pytest.approx(alone["total"], rel=1e-6)
    assert together["stderr"] == pytest.approx(alone["stderr"], rel=1e-5)
    assert together["images"] == alone["images"]


def test_two_processes_write_the_files_that_one_does(pictures, tmp_path, codec):
    names = sorted(pictures.glob("?.png"))
    out = tmp_path / "out"
    reports = torchrun(
        "encode", *names, pictures / "wide.png", "-o", out, "--bytes", 150, "--model", "tiny-1", "--json"
    )
    rows = json.loads(reports[0])
    assert [row["file"] for row in rows] == [str(out / f"{n.stem}.ddpm") for n in [*names, pictures / "wide.png"]]
    alone = codec.encode([read_picture(n) for n in names], Target(bytes=150))
    for name, file in zip(names, alone):
        assert (out / f"{name.stem}.ddpm").read_bytes() == file.data
    [wide] = Codec("tiny-1").encode([read_picture(pictures / "wide.png")], Target(bytes=150))
    assert (out / "wide.ddpm").read_bytes() == wide.data


def test_two_processes_train_together(pictures, tmp_path, models):
    settings = ["batch=4", "crop=16", "decay_images=16", "compile=false", "autocast=false"]
    settings = [word for setting in settings for word in ("--set", setting)]
    torchrun("train", pictures, "-o", tmp_path / "run", "--preset", "tiny", "--minutes", 2, "--quiet", *settings)
    rows = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert rows[-1]["images"] == 16
    assert np.isfinite(rows[-1]["bits_per_dim"])
