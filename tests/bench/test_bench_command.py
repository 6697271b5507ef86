"""Measurements as commands: whatever a user got wrong is one line and exit code 2, before a model is even loaded."""

import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import bench
from bench.harness import parts, pick
from bench.harness.command import Command, command
from codec import CodecError
from codec.errors import UnknownModel

HERE = Path(bench.__file__).parent
MODULES = [p.stem for p in sorted(HERE.glob("*.py")) if '__name__ == "__main__"' in p.read_text()]
MODULES.remove("machines")  # which measures nothing, but runs other commands
OF_PICTURES = ("agreement", "archive", "bounds", "chain", "lossless", "perceptual", "portability", "rate_distortion")
SOURCES = {
    **{name: ["nowhere"] for name in (*OF_PICTURES, "boundaries", "curves", "demo", "report", "results", "scale")},
    "perceptual": ["nowhere", "nowhere"],
}


def refused(module, *args):
    """What a command says of a mistake; it has loaded no model."""
    done = CliRunner().invoke(import_module(f"bench.{module}").main, list(map(str, args)), catch_exceptions=False)
    assert done.exit_code == 2, done.output
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert not done.stdout
    return done.stderr


@pytest.fixture(autouse=True)
def no_models(monkeypatch):
    def no(*_):
        raise AssertionError("a model is loaded before a mistake is found")

    for module in MODULES:
        for name in ("Codec", "load_model"):
            monkeypatch.setattr(f"bench.{module}.{name}", no, raising=False)


@pytest.mark.parametrize("module", MODULES)
def test_every_measurement_is_such_a_command(module):
    assert isinstance(import_module(f"bench.{module}").main, Command)


def test_all_commands_are_listed():
    assert sorted(re.findall(r"^    (\w+)  ", bench.__doc__, re.M)) == sorted([*MODULES, "machines"])


@pytest.mark.parametrize("module", SOURCES)
def test_what_is_not_there(module, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "nowhere" in refused(module, *SOURCES[module])


@pytest.mark.parametrize("module", OF_PICTURES)
def test_what_is_no_picture(module, tmp_path):
    (tmp_path / "a.png").write_bytes(b"no picture")
    assert "not an image" in refused(module, *[tmp_path / "a.png"] * len(SOURCES[module]))


@pytest.mark.parametrize("module", [m for m in MODULES if m != "readme"])
def test_outputs_that_cannot_be_written(module, tmp_path):
    """A folder where a file shall be, a file where a folder shall be, and a picture of an unknown kind."""
    main = import_module(f"bench.{module}").main
    (tmp_path / "file").write_bytes(b"kept")
    options = {o for p in main.params if isinstance(p, click.Option) for o in p.opts}
    asked = SOURCES.get(module, [])
    refused(module, *asked, "-o", tmp_path / "file" / "x.json")
    if module not in ("demo", "quick"):  # whose outputs are folders
        assert "is a folder" in refused(module, *asked, "-o", tmp_path)
    if "-p" in options:
        refused(module, *asked, "-p", tmp_path / "file" / "x.png")
        assert "png, svg, webp" in refused(module, *asked, "-p", tmp_path / "x.jpg")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_bytes() == b"kept"


@pytest.mark.parametrize(
    "line",
    [
        "agreement x --images 0",
        "archive x --steps 1",
        "archive x --samples 2",
        "bounds x --steps 100,many",
        "bounds x --steps 1",
        "chain x --crop -3",
        "channel --bits 32,a",
        "channel --schemes trellis,best",
        "channel --chunk 17",
        "channel --bits 32 --dims 16",
        "channel --seconds 0",
        "curves x --images 0",
        "demo x --model",
        "lossless x --skip -1",
        "portability x y --model tiny",
        "portability x --images 0",
        "quick --only channel,none",
        "rate_distortion x --recon mean,median",
        "rate_distortion x --steps 4,0",
        "rate_distortion x --ideal 1",
        "report --rate 0",
        "scale x --megapixels 0",
        "speed --what encode,sing",
        "speed --sizes 32,",
    ],
)
def test_values_that_options_do_not_have(line):
    module, *options = line.split()
    refused(module, *options)


def test_results_that_are_none(tmp_path):
    for name, content in {
        "a": "no JSON",
        "b": "[]",
        "c": "{}",
        "d": '{"bench": "../evil", "rows": [], "seconds": 1, "fingerprint": null}',
        "e": '{"bench": "curves", "rows": [{}], "seconds": 1, "fingerprint": null}',
        "f": '{"bench": "peers", "rows": [], "seconds": 1, "fingerprint": null}',
    }.items():
        (tmp_path / name).write_text(content)
        refused("results", tmp_path / name)
    assert "two.json" in refused("report", tmp_path / "two.json")


def test_folders_without_pictures(tmp_path):
    assert "no PNG files" in refused("curves", tmp_path)
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "a.png")
    assert "no PNG files after 1" in refused("curves", tmp_path, "--skip", 1)
    assert "none after 5" in refused("lossless", tmp_path, "--skip", 5)
    assert "sides of 32 pixels" in refused("chain", tmp_path)


def test_pictures_that_are_not_there_are_one_kind_of_error(tmp_path):
    for source in (None, tmp_path / "nowhere", tmp_path):
        with pytest.raises(CodecError):
            pick.load(source)


def test_a_folder_of_other_parts(tmp_path):
    (tmp_path / "parts.json").write_text('{"of": 1}')
    with pytest.raises(CodecError, match="another measurement"):
        parts.Parts(tmp_path, {"of": 2})
    (tmp_path / "parts.json").write_text("half of a fi")
    with pytest.raises(CodecError, match="not JSON"):
        parts.Parts(tmp_path, {"of": 2})


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (CodecError("a\nb"), "error: a b\n"),
        (UnknownModel("no model"), "error: no model\n"),
        (FileNotFoundError(2, "No such file", "x"), "error: x: No such file\n"),
        (MemoryError(), "error: not enough memory\n"),
        (click.UsageError("usage"), "error: usage\n"),
    ],
)
def test_mistakes_are_one_line(error, said):
    @command()
    def fails():
        raise error

    done = CliRunner().invoke(fails, [])
    assert (done.exit_code, done.stderr) == (2, said)


@pytest.mark.parametrize("error", [ValueError("ours"), RuntimeError("ours")])
def test_our_own_mistakes_are_not_hidden(error):
    @command()
    def fails():
        raise error

    assert CliRunner().invoke(fails, []).exception is error


def test_a_process_of_its_own_says_the_same(tmp_path):
    asked = [sys.executable, "-m", "bench.results", str(tmp_path / "none.json")]
    done = subprocess.run(asked, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == f"error: {tmp_path / 'none.json'}: No such file or directory\n"
