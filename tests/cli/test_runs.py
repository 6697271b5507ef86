"""Runs of the real command line that are stopped, killed, resumed and contradicted."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import load_file

from codec.images.pictures import png_bytes
from ddpm import files
from ddpm.models import runs
from ddpm.training.train import train
from tests.conftest import smooth_picture

SMALL = {"compile": False, "autocast": False, "batch": 2, "crop": 8}
SET = [word for name, value in SMALL.items() for word in ("--set", f"{name}={json.dumps(value)}")]
STEPS = 100
ALL_IMAGES = ["--set", f"decay_images={2 * STEPS}"]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    for i in range(4):
        (folder / f"{i}.png").write_bytes(png_bytes(smooth_picture(24, 24, i)))
    return folder


@pytest.fixture(scope="module")
def trained(pictures, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    train(folder, [str(pictures)], "tiny", 1.0, {**SMALL, "decay_images": 8}, quiet=True)
    return folder


@pytest.fixture
def folder(trained, tmp_path):
    """A run of four steps, at its end."""
    return shutil.copytree(trained, tmp_path / "run")


def start(*words):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    words = [sys.executable, "-m", "codec", *map(str, words)]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def one_line(err):
    assert err.startswith("error: "), err
    assert err.count("\n") == 1, err
    return err


@pytest.fixture
def single_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def stopped(folder, pictures, number) -> int:
    """Start a run, send it a signal after the first step, check what it says; the steps that it has taken."""
    job = start("train", pictures, "-o", folder, "--preset", "tiny", *SET, *ALL_IMAGES)
    while not (folder / runs.STATE).exists() and job.poll() is None:
        time.sleep(0.01)
    job.send_signal(number)
    out, err = job.communicate(timeout=300)
    assert job.returncode == 128 + number, err
    assert out == ""
    said = err.splitlines()[-1]
    assert said.startswith(f"stopped by {signal.Signals(number).name}; ")
    assert f"go on with: ddpm-codec train -o {folder}" in said
    steps = runs.clock(folder)["steps"]
    assert 0 < steps < STEPS
    assert f" {steps} steps" in said
    assert not list(folder.glob("*.tmp"))
    return steps


def test_stopped_by_a_signal_and_resumed_it_is_the_run_that_never_stopped(pictures, tmp_path, command, single_thread):
    folder = tmp_path / "run"
    stopped(folder, pictures, signal.SIGTERM)
    code, out, err = command("train", "-o", folder)  # pictures and settings are the run's own
    assert (code, err) == (0, "")
    assert runs.clock(folder)["steps"] == STEPS
    assert "bits/dim" in out
    assert f"next: ddpm-codec calibrate {folder} {pictures} -o models/run-1" in out
    whole = train(tmp_path / "whole", [str(pictures)], "tiny", changes={**SMALL, "decay_images": 2 * STEPS}, quiet=True)
    theirs = load_file(folder / runs.STATE)
    for name, value in load_file(whole.folder / runs.STATE).items():
        assert torch.equal(value, theirs[name]), name


def test_an_interrupt_saves_too(pictures, tmp_path):
    stopped(tmp_path / "run", pictures, signal.SIGINT)


def test_a_signal_while_all_is_still_being_loaded_leaves_nothing(pictures, tmp_path):
    """Wherever it comes: before the handler, while torch is loaded, while pictures are read."""
    for wait in (0.3, 1.5):
        folder = tmp_path / f"run{wait}"
        job = start("train", pictures, "-o", folder, "--preset", "tiny", *SET, "--minutes", 1)
        time.sleep(wait)
        job.terminate()
        _, err = job.communicate(timeout=300)
        assert job.returncode in (-signal.SIGTERM, 128 + signal.SIGTERM), err
        assert "Traceback" not in err
        assert not folder.exists() or runs.clock(folder)


def test_killed_at_any_point_a_run_is_whole(pictures, tmp_path, monkeypatch):
    """Each write of a save fails once: before it, half way and just before its file is put in place."""

    class Killed(BaseException):
        pass

    go_on = lambda folder, steps: train(  # noqa: E731
        folder, [str(pictures)], "tiny", 1.0, {**SMALL, "decay_images": 2 * steps}, quiet=True
    )
    replaced = []
    real = files.os.replace

    def failing(at):
        def replace(source, target):
            replaced.append(os.path.basename(target))
            if len(replaced) == at:
                raise Killed
            real(source, target)

        return replace

    monkeypatch.setattr(files.os, "fsync", lambda _: None)
    folder = tmp_path / "counted"
    monkeypatch.setattr(files.os, "replace", failing(0))
    go_on(folder, 4)
    names, count = set(replaced), len(replaced)
    assert names == {runs.SETTINGS, runs.STATE, runs.AVERAGE, runs.LOG}
    for at in range(1, count + 1):
        replaced.clear()
        folder = tmp_path / f"killed{at}"
        monkeypatch.setattr(files.os, "replace", failing(at))
        with pytest.raises(Killed):
            go_on(folder, 4)
        monkeypatch.setattr(files.os, "replace", real)
        assert go_on(folder, 4).steps == 4
        found, expected = (load_file(tmp_path / name / runs.STATE) for name in (folder.name, "counted"))
        assert all(torch.equal(found[k], expected[k]) for k in expected)
        assert [row["steps"] for row in runs.log(folder)][-1] == 4
        average = load_file(folder / runs.AVERAGE)
        assert all(torch.equal(average[k], found[f"average.{k}"]) for k in average)


def test_rows_of_steps_that_were_not_saved_leave_the_log(folder):
    assert runs.clock(folder)["steps"] == 4
    rows = runs.log(folder)
    with (folder / runs.LOG).open("a") as f:
        f.write(json.dumps({**rows[-1], "steps": 9}) + '\n{"steps": 1')
    assert runs.log(folder) == rows


def test_runs_with_a_clock_of_its_own_file_go_on(folder):
    """As they were written before the clock lay in the state."""
    from safetensors.torch import save_file

    clock = runs.clock(folder)
    (folder / "state.json").write_text(json.dumps({k: v for k, v in clock.items() if k != "span"}))
    save_file(load_file(folder / runs.STATE), folder / runs.STATE)
    old = {k: v for k, v in runs.settings(folder).items() if k not in ("preset", "lists")}
    (folder / runs.SETTINGS).write_text(json.dumps({**old, "decay_images": 12}))
    assert train(folder, preset="tiny", quiet=True).steps == 6
    assert not (folder / "state.json").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--preset", "photo"], "holds a run of preset tiny, not photo"),
        (["--set", "batch=7"], "with batch=2, not 7"),
        (["--set", "lr=0.5"], "with lr=0.002, not 0.5"),
        (["--set", "speed=9"], "no such setting: speed"),
        (["--set", "compile=3"], "compile 3"),
        (["--minutes", "0"], "0 minutes"),
        (["--minutes", "nan"], "nan minutes"),
        (["--minutes", "-3"], "-3 minutes"),
        (["--total-minutes", "0"], "decay_minutes 0"),
        (["--total-minutes", "9"], "not over both"),
    ],
)
def test_what_contradicts_a_run_is_one_line(folder, command, words, said):
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    code, out, err = command("train", "-o", folder, *words)
    assert (code, out) == (2, "")
    assert said in one_line(err)
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before


def test_other_pictures_are_another_run(folder, pictures, tmp_path, command):
    code, _, err = command("train", pictures / "1.png", "-o", folder)
    assert code == 2
    assert "holds a run on other pictures" in one_line(err)
    copies = tmp_path / "copies"
    copies.mkdir()
    for i, path in enumerate(sorted(pictures.iterdir(), reverse=True)):
        (copies / f"{i}.png").write_bytes(path.read_bytes())
    assert command("train", copies, "-o", folder, "--quiet")[0] == 0  # the same under other names


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--set", "batch=0"], "batch 0 is out of range"),
        (["--set", 'lr="fast"'], "lr"),
        (["--set", "crop=[]"], "crop"),
        (["--set", "betas=[0.9]"], "betas"),
        (["--set", "objective=1"], "objective"),
        (["--set", 'model={"schedule": {}, "network": {}}'], "model"),
        (["--set", 'model={"schedule": {"kind": "linear-gamma"}, "network": {"base": 7}}'], "model"),
        (["--set", 'init="nowhere.safetensors"'], "nowhere.safetensors"),
        (["--set", "crop=100"], "100x100"),
        (["--set", "tile=100"], "no images"),
    ],
)
def test_settings_of_a_new_run_that_cannot_be_are_one_line(pictures, tmp_path, command, words, said):
    code, _, err = command("train", pictures, "-o", tmp_path / "run", "--preset", "tiny", *words, "--minutes", "0.01")
    assert code == 2
    assert said in one_line(err)
    assert not (tmp_path / "run").exists()


def test_a_new_run_needs_pictures(tmp_path, command):
    code, _, err = command("train", "-o", tmp_path / "run")
    assert code == 2
    assert "say what pictures to train one on" in one_line(err)


@pytest.mark.parametrize("damage", ["state", "half a state", "settings", "other network"])
def test_a_damaged_run_is_one_line(folder, command, damage):
    state, settings = folder / runs.STATE, folder / runs.SETTINGS
    if damage == "state":
        state.write_bytes(b"\xff" * 100)
    elif damage == "half a state":
        state.write_bytes(state.read_bytes()[: state.stat().st_size // 2])
    elif damage == "settings":
        settings.write_text("[1")
    else:
        found = json.loads(settings.read_text())
        found["model"]["network"]["base"] = 16
        settings.write_text(json.dumps(found))
    code, _, err = command("train", "-o", folder)
    assert code == 2
    assert str(folder) in one_line(err)


def test_files_have_the_mode_of_new_files(pictures, tmp_path, model):
    from ddpm.models.load import save_model
    from ddpm.models.pretrained import save_tables

    before = os.umask(0o027)
    try:
        train(tmp_path / "run", [str(pictures)], "tiny", 1.0, {**SMALL, "decay_images": 4}, quiet=True)
        save_model(model, tmp_path / "m-1", {"coding": model.coding})
        save_tables(tmp_path, {"coding": model.coding})
    finally:
        os.umask(before)
    modes = {p.name: oct(p.stat().st_mode & 0o777) for p in tmp_path.rglob("*") if p.is_file()}
    assert len(modes) == 7
    assert set(modes.values()) == {"0o640"}
