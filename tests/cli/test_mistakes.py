"""Mistakes are answered at once: in one line, with exit code 2, and before torch is imported."""

import json
import subprocess
import sys
import threading
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from codec.archive import header as archives
from codec.archive.patches import CODE
from codec.format.container import Header
from codec.format.file import NOBODY, pack
from codec.lossy.plan import MEAN

GOLDEN = Path(__file__).parents[1] / "project" / "golden"
WITHOUT_TORCH = """
import contextlib, io, json, sys, traceback
sys.modules["torch"] = None
from codec.cli import main
lines, sys.stdin = sys.stdin, io.TextIOWrapper(io.BytesIO())
for line in lines:
    sys.argv[1:], out, err, code = json.loads(line), io.StringIO(), io.StringIO(), None
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main()
        except SystemExit as e:
            code = e.code or 0
        except BaseException:
            traceback.print_exc()
    print(json.dumps([code, out.getvalue(), err.getvalue()]), flush=True)
"""


def files_of_models():
    """Whole, cut and damaged; and one that needs no model."""
    small, photo = ((GOLDEN / f"{name}.ddpm").read_bytes() for name in ("cifar10-5", "photo-10"))
    colour = Header(b"", 8, 8, MEAN, 0, mode="stored", colour=b"abc")
    return {
        "cifar10.ddpm": small,
        "damaged.ddpm": small[:-9] + bytes([small[-9] ^ 1]) + small[-8:],
        "photo.ddpm": photo,
        "cut.ddpm": photo[:90],
        "stored.ddpm": pack(colour, b"", b"", {"picture": b""}, NOBODY),
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mistakes")
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(folder / "a.png")
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(folder / "b.png")
    (folder / "bad.png").write_bytes(b"not a picture")
    (folder / "old.ddpm").write_bytes(Header(b"\1\2", 8, 8, MEAN, 3).pack() + b"ab")
    (folder / "alien").write_bytes(b"not a file of ours")
    for name, data in files_of_models().items():
        (folder / name).write_bytes(data)
    (folder / "a.json").write_text('{"diagrams": []}')
    (folder / "pictures").mkdir()
    (folder / "empty").mkdir()
    header = archives.ArchiveHeader(
        model="m",
        fingerprint=bytes(32),
        steps=CODE,
        names=["a.png"],
        sizes=[(8, 8)],
        grey=[False],
        alpha={},
        crcs=[0],
        plan=[1],
        count=4,
    )
    (folder / "old.ddpma").write_bytes(archives.pack(header, np.zeros(4, np.uint32)))
    return folder


@pytest.fixture(scope="module")
def run(folder):
    """The command in a process without torch, which answers one line after the other: exit code, stdout, stderr."""
    words = [sys.executable, "-c", WITHOUT_TORCH]
    process = subprocess.Popen(words, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    late = threading.Timer(600, process.kill)
    late.start()

    def call(line):
        process.stdin.write(json.dumps(line.split()) + "\n")
        process.stdin.flush()
        return json.loads(process.stdout.readline())

    yield call
    late.cancel()
    process.communicate()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("encode none.png", "none.png: No such file"),
        ("encode bad.png", "bad.png"),
        ("encode a.png --model none", "no model 'none'"),
        ("encode a.png -o old.ddpm", "old.ddpm exists"),
        ("encode a.png old.ddpm", "old.ddpm exists"),
        ("encode a.png b.png -o new.ddpm", "new.ddpm: several files need a folder"),
        ("encode a.png -q 101", "--quality"),
        ("encode a.png -q nan", "quality is a number from 0 to 100"),
        ("encode a.png -q 50 --rate 1", "at most one of --quality, --rate"),
        ("encode a.png --lossless --max-error 1", "at most one of --quality, --rate"),
        ("encode a.png --rate 0.1 --bytes 90", "at most one of --quality, --rate"),
        ("encode a.png --bytes 9apples", "'9apples' is not a size such as 9000, 9kB or 9KiB"),
        ("encode a.png --bytes 0", "positive number"),
        ("encode a.png --device gpu", "no device 'gpu'"),
        ("encode a.png -o - --json", "cannot both go to standard output"),
        ("encode a.png a.png", "given twice"),
        ("encode empty", "no pictures in this folder"),
        ("encode a.png --frobnicate", "No such option"),
        ("encode", "Missing argument"),
        ("decode none.ddpm", "none.ddpm: No such file"),
        ("decode alien -o new.png", "alien: not a ddpm-codec file"),
        ("decode old.ddpma -o new.png", "old.ddpma: an archive; ddpm-codec archive extract"),
        ("decode old.ddpm -o new.gif", "a picture is written as .png, .jpg"),
        ("decode old.ddpm a.png", "a.png exists"),
        ("decode old.ddpm a.png -o new.png", "several files need a folder"),
        ("decode old.ddpm --model none", "no model 'none'"),
        ("decode old.ddpm -o new.png --recon best", "--recon"),
        ("info none.ddpm", "none.ddpm: No such file"),
        ("info alien", "alien: not a ddpm-codec file"),
        ("info old.ddpm", "no known model has the fingerprint"),
        ("info old.ddpm --model none", "no model 'none'"),
        ("info damaged.ddpm", "damaged"),
        ("bpd none", "none: No such file"),
        ("bpd a.png --model none", "no model 'none'"),
        ("bpd a.png --plot a.svg", "give --terms too"),
        ("bpd a.png --terms --steps 9 --plot b.png", "b.png exists"),
        ("bpd a.png --ode --terms", "--ode"),
        ("sample --model none", "no model 'none'"),
        ("sample -o a.png", "a.png exists"),
        ("sample -o a.gif", "a picture is written as"),
        ("sample --figure interpolate", "takes two pictures"),
        ("sample --figure interpolate --image none --image a.png", "none: No such file"),
        ("sample --size 0x9", "not a size such as 96x64"),
        ("train none -o new", "none: No such file"),
        ("train a.png -o new --set batch=many", "not JSON"),
        ("train a.png -o new --preset none", "--preset"),
        ("calibrate photo none -o new", "none: No such file"),
        ("calibrate photo a.png -o new --test none", "none: No such file"),
        ("calibrate photo a.png -o new --images 0", "--images"),
        ("calibrate photo a.png -o new --memory 99", "--memory"),
        ("calibrate photo a.png -o new --surplus -1", "--surplus"),
        ("calibrate photo a.png -o new --scale 0", "--scale"),
        ("archive create new a.png --model none", "no model 'none'"),
        ("archive create new none", "none: No such file"),
        ("archive create new bad.png", "bad.png"),
        ("archive create old.ddpma a.png", "old.ddpma exists"),
        ("archive create - a.png --json", "cannot both go to standard output"),
        ("archive extract none", "none: No such file"),
        ("archive extract alien", "alien: not a ddpm-codec archive"),
        ("archive extract old.ddpma -o a.png", "a.png is a file"),
        ("archive extract old.ddpma -o .", "a.png exists"),
        ("archive extract -", "say with -o"),
        ("archive list old.ddpm", "not a ddpm-codec archive"),
        ("archive verify old.ddpma", "which is not known here"),
        ("plot a.json -o b.png", "b.png exists"),
        ("plot a.json -o new.png", "no diagram"),
    ],
)
def test_before_torch(folder, run, line, words):
    before = {p.name: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    code, out, err = run(line)
    assert (code, out) == (2, ""), err
    [said] = err.splitlines()
    assert said.startswith("error: ")
    assert words in said
    assert {p.name: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("--version", version("ddpm-codec")),
        ("--help", "encode"),
        ("encode --help", "--quality"),
        ("models", "photo-"),
        ("models --all --json", "photo-10"),
        ("archive list old.ddpma", "1 picture,"),
        ("info old.ddpma", "archive, lossless"),
        ("info cifar10.ddpm", "cifar10-5"),
        ("info cifar10.ddpm --model cifar10 --json", '"complete": true'),
        ("info photo.ddpm cut.ddpm stored.ddpm", "stored"),
    ],
)
def test_what_needs_no_network_needs_no_torch(run, line, words):
    code, out, err = run(line)
    assert (code, err) == (0, "")
    assert words in out
