"""The real command line on real files: in this process, and in others what two may see differently."""

import json
import os
import subprocess
import sys
from importlib.metadata import version
from types import SimpleNamespace

import click
import numpy as np
import pytest
from PIL import Image

from codec.cli.app import cli
from codec.cli.archive import archive
from codec.images.pictures import png_bytes
from ddpm.models.runs import clock
from ddpm.models.store import find_model
from tests.cli.conftest import exit_code
from tests.conftest import smooth_picture


@pytest.fixture
def run(models, tmp_path, monkeypatch, capsysbinary):
    """The command line in this process, in a folder of the test's own."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments, code=0):
        got = exit_code(monkeypatch, *arguments)
        done = SimpleNamespace(**capsysbinary.readouterr()._asdict())
        assert got == code, done.err.decode()
        return done

    return call


@pytest.fixture
def process(models, tmp_path):
    """The same in a process of its own."""

    def call(*arguments, code=0, stdin=b""):
        done = subprocess.run(
            [sys.executable, "-c", "from codec.cli import main; main()", *map(str, arguments)],
            input=stdin,
            capture_output=True,
            cwd=tmp_path,
            timeout=600,
        )
        assert done.returncode == code, done.stderr.decode()
        assert b"Traceback" not in done.stderr
        return SimpleNamespace(out=done.stdout, err=done.stderr)

    return call


@pytest.fixture
def picture(tmp_path):
    (tmp_path / "a.png").write_bytes(png_bytes(smooth_picture(16, 24)))
    return tmp_path / "a.png"


def test_encode_info_decode(run, picture, tmp_path):
    [row] = json.loads(run("encode", "a.png", "--rate", "1.2", "--model", "tiny", "--json").out)
    file = tmp_path / "a.ddpm"
    assert row["bytes"] == file.stat().st_size <= 1.2 * 16 * 24 * 3 / 8
    assert set(row) >= {"file", "bytes", "bits_per_dim", "bits_per_pixel", "psnr", "ideal_bits_per_dim", "seconds"}
    fields = json.loads(run("info", "a.ddpm", "--json").out)
    assert (fields["width"], fields["height"], fields["complete"]) == (24, 16, True)
    run("decode", "a.ddpm", "-o", "b.png", "--quiet")
    [small] = json.loads(run("decode", "a.ddpm", "--max-size", "9", "-o", "small.png", "--json").out)
    assert Image.open(tmp_path / "small.png").size == (small["width"], small["height"]) == (8, 6)
    shown = np.asarray(Image.open(tmp_path / "b.png")).astype(float)
    psnr = 10 * np.log10(255**2 / np.mean((shown - np.asarray(Image.open(picture))) ** 2))
    assert abs(psnr - row["psnr"]) < 0.02


def test_small_pictures_have_a_model_of_their_own(run, picture, tmp_path):
    (tmp_path / "wide.png").write_bytes(png_bytes(smooth_picture(16, 33)))
    run("encode", "a.png", "wide.png", "--bytes", "40")
    lines = [json.loads(run("info", name, "--json").out)["model"] for name in ("a.ddpm", "wide.ddpm")]
    assert [line.split("-")[0] for line in lines] == ["cifar10", "photo"]
    run("decode", "a.ddpm", "wide.ddpm", "-o", ".", "--force")
    assert Image.open(tmp_path / "wide.png").size == (33, 16)


def test_lossless(run, picture, tmp_path):
    [row] = json.loads(run("encode", "a.png", "--lossless", "--model", "tiny", "--json").out)
    assert row["psnr"] is None
    assert row["bytes"] == (tmp_path / "a.ddpm").stat().st_size
    assert json.loads(run("info", "a.ddpm", "--json").out)["mode"] in ("lossless", "stored")
    run("decode", "a.ddpm", "-o", "b.png", "--quiet")
    assert np.array_equal(np.asarray(Image.open(tmp_path / "b.png")), np.asarray(Image.open(picture)))
    (tmp_path / "cut.ddpm").write_bytes((tmp_path / "a.ddpm").read_bytes()[:-1])
    assert b"unverified" in run("decode", "cut.ddpm").err
    run("encode", "a.png", "--lossless", "--rate", "1", "--model", "tiny", code=2)


def test_a_folder_stands_for_its_pictures(run, tmp_path):
    (tmp_path / "many").mkdir()
    for name in ("b.png", "a.png", "notes.txt"):
        (tmp_path / "many" / name).write_bytes(png_bytes(smooth_picture(16, 24)))
    rows = json.loads(run("encode", "many", "-o", "out", "--bytes", "90", "--model", "tiny", "--json").out)
    assert [row["file"] for row in rows] == ["out/a.ddpm", "out/b.ddpm"]
    (tmp_path / "empty").mkdir()
    assert b"no pictures" in run("encode", "empty", "--bytes", "90", "--model", "tiny", code=2).err


def test_pipes(run, process, picture, tmp_path):
    """And processes agree: on the file, and on the picture."""
    quick = "--bytes", "100", "--model", "tiny"
    data = process("encode", "-", "-o", "-", *quick, stdin=picture.read_bytes()).out
    assert len(data) <= 100
    png = process("decode", "-", "-o", "-", stdin=data).out
    assert png.startswith(b"\x89PNG")
    run("encode", "a.png", *quick)
    run("decode", "a.ddpm", "-o", "b.png")
    assert (tmp_path / "a.ddpm").read_bytes() == data
    assert (tmp_path / "b.png").read_bytes() == png


def test_folders_and_existing_files(run, picture, tmp_path):
    (tmp_path / "b.png").write_bytes(png_bytes(smooth_picture(16, 24, 1)))
    (tmp_path / "g.png").write_bytes(png_bytes(smooth_picture(9, 7, 1, 1)))
    rows = json.loads(
        run("encode", "a.png", "b.png", "g.png", "-o", "out", "--bytes", "90", "--model", "tiny", "--json").out
    )
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["a.ddpm", "b.ddpm", "g.ddpm"]
    assert len(rows) == 3
    run("decode", "out/a.ddpm", "out/b.ddpm", "out/g.ddpm", "-o", "back")
    assert Image.open(tmp_path / "back/g.png").mode == "L"
    before = picture.read_bytes()
    for place in (["-o", "./"], []):
        done = run("decode", "out/a.ddpm" if place else "a.ddpm", *place, code=2)
        assert done.err.count(b"\n") == 1
    assert picture.read_bytes() == before
    done = run("decode", "out/a.ddpm", "-o", "./", code=2)
    assert b"exists" in done.err
    assert b"-o" not in done.err  # it was given


def test_a_named_output_is_replaced_with_force_only(run, picture, tmp_path):
    quick = ["--bytes", "90", "--model", "tiny", "--quiet"]
    run("encode", "a.png", "-o", "a.ddpm", *quick)
    first = (tmp_path / "a.ddpm").read_bytes()
    (tmp_path / "b.png").write_bytes(b"kept")
    assert b"a.ddpm exists" in run("encode", "a.png", "-o", "a.ddpm", "--seed", "1", *quick, code=2).err
    assert b"b.png exists" in run("decode", "a.ddpm", "-o", "b.png", code=2).err
    assert (tmp_path / "a.ddpm").read_bytes() == first
    assert (tmp_path / "b.png").read_bytes() == b"kept"
    run("encode", "a.png", "-o", "a.ddpm", "--seed", "1", "--force", *quick)
    run("decode", "a.ddpm", "-o", "b.png", "--force")
    assert (tmp_path / "a.ddpm").read_bytes() != first
    assert Image.open(tmp_path / "b.png").size == (24, 16)
    run("decode", "a.ddpm", "-o", os.devnull, "--quiet")


def test_an_input_is_never_replaced(run, picture, tmp_path):
    before = picture.read_bytes()
    (tmp_path / "link.png").symlink_to("a.png")
    (tmp_path / "file.png").write_bytes(b"no picture")
    for arguments in (
        ["encode", "a.png", "-o", "a.png", "--bytes", "90", "--model", "tiny"],
        ["encode", "a.png", "-o", "link.png", "--bytes", "90", "--model", "tiny"],
        ["decode", "a.png", "-o", "./a.png"],
        ["decode", "file.png"],
        ["archive", "create", "a.png", "a.png", "--model", "tiny"],
        ["archive", "create", "a.png", ".", "--model", "tiny"],
        ["plot", "a.png", "-o", "a.png"],
        ["bpd", "a.png", "--steps", "4", "--terms", "--plot", "a.png", "--model", "tiny"],
        ["sample", "--figure", "interpolate", "--image", "a.png", "--image", "a.png", "-o", "a.png"],
    ):
        done = run(*arguments, "--force", code=2)
        assert done.err.count(b"\n") == 1
        assert b"an input too" in done.err
    assert picture.read_bytes() == before
    assert (tmp_path / "link.png").is_symlink()


def test_a_folder_of_files_is_decoded(run, picture, tmp_path):
    (tmp_path / "files").mkdir()
    for name in ("b", "a"):
        run("encode", "a.png", "-o", f"files/{name}.ddpm", "--bytes", "90", "--model", "tiny", "--quiet")
    (tmp_path / "files/notes.txt").write_text("hello")
    rows = json.loads(run("decode", "files", "-o", "back/", "--json").out)
    assert [row["file"] for row in rows] == ["back/a.png", "back/b.png"]
    (tmp_path / "empty").mkdir()
    assert b"no .ddpm files" in run("decode", "empty", code=2).err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["encode", "none.png", "--rate", "1", "--model", "tiny"], "No such file"),
        (["encode", "bad.png", "--rate", "1", "--model", "tiny"], "not an image"),
        (["encode", "a.png", "--rate", "0.001", "--model", "tiny"], "smallest file"),
        (["encode", "a.png", "--rate", "much", "--model", "tiny"], "not a rate"),
        (["encode", "a.png", "--model", "tiny", "--steps", "3", "--psnr", "30"], "at most one"),
        (["encode", "a.png", "--rate", "1", "--model", "none"], "no model"),
        (["encode", "a.png", "--rate", "1", "--model", "tiny", "-o", "no/such\0"], "error"),
        (["decode", "alien.ddpm"], "not a ddpm-codec file"),
        (["decode", "cut.ddpm"], "inside its header"),
        (["info", "none.ddpm"], "error: none.ddpm: No such file or directory"),
        (["decode", "none.ddpm", "-o", "b.gif"], "is written as .png"),
        (["decode", "none.ddpm", "-o", ""], "empty name"),
        (["decode", ""], "empty name"),
        (["info", ""], "empty name"),
        (["encode", "", "--rate", "1", "--model", "tiny"], "empty name"),
        (["encode", "a.png", "--bytes", "1", "--model", "tiny"], "has 11 bytes"),
        (["encode", "a.png", "--bytes", "90", "--model", "tiny", "--max-pixels", "0"], "--max-pixels"),
        (["encode", "a.png", "--bytes", "90", "--model", "tiny", "--device", "foo"], "no device 'foo'"),
        (["encode", "a.png", "--bytes", "90", "--model", "tiny", "--device", "mps"], "no device 'mps'"),
        (["decode", "none.ddpm", "--device", "foo"], "no device 'foo'"),
        (["encode", "a.png", "--bytes", "90", "--model", "tiny", "-o", "n" * 256], "File name too long"),
        (["decode", "n" * 256], "File name too long"),
        (["train", "none", "-o", "run", "--preset", "tiny"], "error: none: No such file"),
        (["train", "a.png", "-o", "bad.png/run", "--preset", "tiny"], "bad.png/run: Not a directory"),
        (["calibrate", "tiny", "none", "-o", "x"], "error: none: No such file"),
        (["archive", "create", "n" * 256, "a.png", "--model", "tiny"], "File name too long"),
        (["archive", "create", "x", "n" * 256, "--model", "tiny"], "File name too long"),
        (["archive", "create", "x", "alien.ddpm", "--model", "tiny"], "error: alien.ddpm: not an image"),
        (["encode", "a.png", "--channel", "ideal", "-o", "b.ddpm", "--model", "tiny"], "--channel ideal"),
        (["encode", "a.png", "--channel", "ideal", "--lossless", "--model", "tiny"], "--channel ideal"),
        (["frobnicate"], "No such command"),
    ],
)
def test_one_line_and_exit_code_2(run, picture, tmp_path, arguments, words):
    (tmp_path / "bad.png").write_bytes(b"not a picture")
    (tmp_path / "alien.ddpm").write_bytes(b"not a file of ours")
    (tmp_path / "cut.ddpm").write_bytes(b"\xdc\xc1\x02")
    before = sorted(p.name for p in tmp_path.iterdir())
    if any("\0" in a for a in arguments):
        arguments = [a.replace("\0", "") for a in arguments]
        (tmp_path / "no").write_text("a file where a folder is wanted")
        before = sorted([*before, "no"])
    done = run(*arguments, code=2)
    lines = done.err.decode().strip().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    assert words in lines[0]
    assert done.out == b""
    assert sorted(p.name for p in tmp_path.iterdir()) == before


def test_one_bad_picture_does_not_lose_the_others(run, picture, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"not a picture")
    done = run("encode", "bad.png", "a.png", "--bytes", "90", "--model", "tiny", code=2)
    assert (tmp_path / "a.ddpm").exists()
    assert done.err.decode().count("error:") == 1


def test_cut_and_damaged_files(run, picture, tmp_path):
    run("encode", "a.png", "--bytes", "120", "--model", "tiny", "--quiet")
    data = (tmp_path / "a.ddpm").read_bytes()
    (tmp_path / "cut.ddpm").write_bytes(data[:70])
    done = run("decode", "cut.ddpm")
    assert b"unverified" in done.err
    assert (tmp_path / "cut.png").exists()
    (tmp_path / "hurt.ddpm").write_bytes(data[:60] + bytes([data[60] ^ 4]) + data[61:])
    assert b"damaged" in run("decode", "hurt.ddpm", code=2).err
    assert not (tmp_path / "hurt.png").exists()


def test_seed_and_thread_count(run, picture, tmp_path):
    run("encode", "a.png", "--bytes", "120", "--model", "tiny", "--seed", "5", "-o", "s.ddpm")
    said = json.loads(run("info", "s.ddpm", "--json").out)
    assert (said["seed"], said["stride"]) == (5, 1)
    run("decode", "s.ddpm", "-o", "s.png")


def test_less_effort_is_said(run, picture):
    run("encode", "a.png", "--bytes", "120", "--model", "tiny", "--effort", "3", "-o", "s.ddpm")
    assert json.loads(run("info", "s.ddpm", "--json").out)["stride"] == 2
    assert b"--effort" in run("encode", "a.png", "--effort", "5", code=2).err


def test_models_and_version(run):
    rows = {r["name"]: r for r in json.loads(run("models", "--all", "--json").out)}
    usual = {find_model("cifar10").name: "pictures up to 32x32", find_model("photo").name: "larger pictures"}
    assert {n: r["default_for"] for n, r in rows.items() if r["default_for"]} == usual
    assert rows["tiny-1"]["default_for"] is None
    assert rows["cifar10-5"]["trained_on"] == ["cifar10/train-*.webp"]
    lines = dict(line.split(maxsplit=1) for line in run("models", "--all").out.decode().splitlines())
    assert lines["cifar10-5"].endswith("trained on cifar10/train-*.webp")
    for name, which in usual.items():
        assert f"default for {which}" in lines[name]
    assert lines["photo-10"].endswith("trained on photos/train, photos/more; 3.4529 bits/dim of 24 pictures")
    assert version("ddpm-codec").encode() in run("--version").out


@pytest.mark.parametrize("group", [[], ["archive"]])
def test_help_is_shown_as_it_is_laid_out(run, group):
    asked = run(*group, "--help").out
    assert asked.count(b"...") == 1  # of the usage
    assert asked.count(b"\n") > 8
    assert run(*group, code=2).err == asked


def test_every_option_says_what_it_does():
    commands = [c for c in (*cli.commands.values(), *archive.commands.values()) if c is not archive]
    assert not [(c.name, p.name) for c in commands for p in c.params if isinstance(p, click.Option) and not p.help]


def test_a_model_without_a_card_is_named_and_the_others_listed(run, tmp_path, monkeypatch):
    (tmp_path / "broken-1.safetensors").write_bytes(b"")
    monkeypatch.setenv("DDPM_CODEC_MODELS", str(tmp_path))
    listed = run("models", "--all", code=2)
    assert b"broken-1: not a model" in listed.err
    assert b"photo-10" in listed.out


def test_train_calibrate_encode(run, picture, tmp_path):
    """A newcomer's own model: a few seconds of training, tables, a file and the picture back."""
    (tmp_path / "pictures").mkdir()
    for i in range(4):
        (tmp_path / f"pictures/{i}.png").write_bytes(png_bytes(smooth_picture(24, 24, i)))
    small = ["--preset", "tiny", "--quiet", "--set", "compile=false", "--set", "autocast=false"]
    run("train", "pictures", "-o", "run", "--minutes", "0.03", *small)
    steps = clock(tmp_path / "run")["steps"]
    assert steps > 0
    run("train", "pictures", "-o", "run", "--minutes", "0.02", *small)
    assert clock(tmp_path / "run")["steps"] > steps
    run("calibrate", "run", "pictures", "-o", "own-1", "--images", "2", "--crop", "16", "--steps", "12", "--quiet")
    run("encode", "a.png", "--bytes", "120", "--model", "own-1", "-o", "own.ddpm")
    run("decode", "own.ddpm", "--model", "own-1.safetensors", "-o", "own.png")
    assert Image.open(tmp_path / "own.png").size == (24, 16)


def test_help_does_not_wait_for_torch():
    asked = "import sys, codec.cli; print('torch' in sys.modules, codec.Codec.__name__, 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "Codec", "True"]
