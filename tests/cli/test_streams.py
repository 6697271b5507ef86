"""Closed, full and cut off streams, names in no encoding: never a traceback, never words among data."""

import json
import os
import shlex
import subprocess
import sys

import pytest
from PIL import Image

from codec import Target
from codec.images.pictures import png_bytes
from tests.cli.conftest import exit_code
from tests.conftest import smooth_picture

MAIN = "from codec.cli import main; main()"
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
ENCODINGS = {"utf-8": {"PYTHONUTF8": "1"}, "locale C": ASCII, "ascii": {"PYTHONIOENCODING": "ascii:strict"}}
ODD = b"\xff\xe9 \xc3\xa9.png"  # no UTF-8, and a letter beyond ASCII


# All words of its arguments, each in a process that begins where the command's begins: their exit codes go to 3.
FORKED = """
import contextlib, os, sys
from codec.cli import main
for words in sys.argv[1:]:
    if not (child := os.fork()):
        sys.argv[1:] = words.split()
        main()
    os.write(3, b'%d ' % os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    with contextlib.suppress(OSError):
        os.write(2, b'--')
"""
NO_NETWORK = ["models", "models --json", "--help", "encode --help", "--version", "info a.png"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory, codec):
    folder = tmp_path_factory.mktemp("streams")
    (folder / "a.png").write_bytes(png_bytes(smooth_picture(16, 24)))
    (folder / os.fsdecode(ODD)).write_bytes(png_bytes(smooth_picture(16, 24)))
    for name, y in ((b"m.json", 2), (b"\xff.json", 3)):  # two series of one name, so that the file's name is drawn
        series = [{"name": "s", "x": [1], "y": [y]}]
        diagram = {"title": "t", "x": {"label": "x"}, "y": {"label": "y"}, "series": series}
        (folder / os.fsdecode(name)).write_text(json.dumps({"diagrams": [diagram]}))
    file = codec.encode(smooth_picture(16, 24), Target(bytes=120))
    (folder / "a.ddpm").write_bytes(file.data)
    (folder / "cut.ddpm").write_bytes(file.data[:70])
    return folder


def shell(folder, line, environment=(), stdin=b""):
    """A line of sh in which ``$do`` is the command, ``$each`` what does many."""
    environment = {**os.environ, **dict(environment), "python": sys.executable}
    script = line.replace("$do", f'"$python" -c "{MAIN}"').replace("$each", f"$python -c {shlex.quote(FORKED)}")
    done = subprocess.run(
        ["bash", "-c", script], cwd=folder, env=environment, input=stdin, capture_output=True, timeout=600
    )
    assert b"Traceback" not in done.stderr, done.stderr.decode()
    assert b"Exception ignored" not in done.stderr, done.stderr.decode()
    return done


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_closed_streams_without_a_network(folder, closed):
    done = shell(folder, f"$each {shlex.join(NO_NETWORK)} 3> codes {closed}")
    assert done.returncode == 0
    heard = done.stderr.split(b"--")[:-1] if "2>&-" not in closed else [b""] * len(NO_NETWORK)
    for words, code, said in zip(NO_NETWORK, (folder / "codes").read_text().split(), heard, strict=True):
        fine = words != "info a.png" and not closed.startswith((">", "<"))
        assert int(code) == (0 if fine else 2), (words, said)
        assert not said or said.startswith(b"error: ")
        assert said.count(b"\n") <= 1


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_a_full_disk_is_said(folder):
    done = shell(folder, "$do models > /dev/full")
    assert (done.returncode, done.stderr) == (2, b"error: standard output: No space left on device\n")
    assert shell(folder, "$do models --nothing 2> /dev/full").returncode == 2


def test_a_reader_that_leaves(folder):
    done = shell(folder, "$do models --all --json | true; echo ${PIPESTATUS[0]}")
    assert (done.stdout.strip() in (b"0", b"2"), done.stderr) == (True, b"")
    read, write = os.pipe()
    os.close(read)  # nobody reads
    done = subprocess.run(
        [sys.executable, "-c", MAIN, "models"], cwd=folder, stdout=write, stderr=subprocess.PIPE, timeout=600
    )
    assert (done.returncode, done.stderr) == (2, b"")
    done = subprocess.run(
        [sys.executable, "-c", MAIN, "info", "none"], cwd=folder, stderr=write, stdout=subprocess.PIPE, timeout=600
    )
    assert (done.returncode, done.stdout) == (2, b"")
    os.close(write)


def test_data_to_closed_or_full_streams(folder):
    for closed, why in ((">&-", b"closed"), ("> /dev/full", b"No space left on device")):
        done = shell(folder, f"$do encode a.png -o - --bytes 120 --model tiny-1 {closed}")
        assert done.returncode == 2
        assert done.stderr.splitlines()[-1] == b"error: standard output: " + why
    done = shell(folder, "$do info - <&-")
    assert (done.returncode, done.stderr) == (2, b"error: -: standard input is closed\n")


def test_words_never_go_where_data_go(folder, monkeypatch, capsysbinary):
    """A cut file has a warning, and a report: with stderr closed, no file that is opened later may be in its place."""
    monkeypatch.chdir(folder)
    assert exit_code(monkeypatch, "decode", "cut.ddpm", "-o", "-") == 0
    expected, said = capsysbinary.readouterr()
    assert b"unverified" in said
    assert b"24x16" in said
    assert expected.startswith(b"\x89PNG")
    assert expected.endswith(b"IEND\xaeB`\x82")
    done = shell(folder, "$do decode - -o - < cut.ddpm 2>&-")
    assert done.stdout == expected
    done = shell(folder, "$do decode cut.ddpm -o one.png >&- 2>&-")
    assert (folder / "one.png").read_bytes() == expected
    made = shell(folder, "$do archive create - a.png --model tiny-1")
    assert made.stdout.startswith(b"DDPMARC")
    assert b"1 picture, " in made.stderr
    assert b"1 picture, " in shell(folder, "$do archive list -", stdin=made.stdout).stdout  # nothing is behind it


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_names_in_no_encoding(folder, encoding):
    environment = ENCODINGS[encoding]
    done = shell(folder, r"""$do encode $'\xff\xe9 \xc3\xa9.png' --bytes 120 --model tiny-1 --force""", environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(b"\n") == 1
    assert os.path.exists(os.path.join(os.fsencode(folder), ODD[:-4] + b".ddpm"))
    none = shell(folder, r"""$do info $'no\xffthing'""", environment)
    assert none.returncode == 2
    assert none.stderr.startswith(b"error: no")
    assert none.stderr.count(b"\n") == 1
    drawn = shell(folder, r"""$do plot m.json $'\xff.json' -o $'\xff.svg' --force""", environment)
    assert drawn.returncode == 0, drawn.stderr


def test_names_in_json_lead_back_to_the_file(folder):
    done = shell(folder, r"""$do decode a.ddpm $'\xff\xe9.webp' --json""")
    [row] = json.loads(done.stdout)
    assert os.fsencode(row["file"]) == b"\xff\xe9.webp"
    assert Image.open(folder / row["file"]).format == "WEBP"
