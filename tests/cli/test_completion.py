"""Shells complete file names, models and words wherever a command takes them."""

import os
import pty
import re
import select
import shutil
import subprocess
import sys
import time

import click
import pytest
from click.shell_completion import BashComplete

from codec.cli.app import cli
from codec.cli.types import File, Folder, Model

COMMANDS = {
    **{(name,): c for name, c in cli.commands.items() if not isinstance(c, click.Group)},
    **{("archive", name): c for name, c in cli.commands["archive"].commands.items()},
}


def completed(*words):
    """(value, type) of each completion of the last word."""
    *before, last = words
    return [(c.value, c.type) for c in BashComplete(cli, {}, "ddpm-codec", "_X").get_completions(list(before), last)]


def test_no_command_takes_words_that_no_shell_can_complete():
    plain = [(name, p.name) for name, c in COMMANDS.items() for p in c.params if p.type is click.STRING]
    free = {(("train",), "settings"), (("train",), "note"), (("calibrate",), "note"), (("card",), "exclude")}
    assert set(plain) == free  # what only the user knows


@pytest.mark.parametrize("name", COMMANDS, ids=" ".join)
def test_files_and_folders_complete(name):
    given = [p for p in COMMANDS[name].params if isinstance(p.type, File | Folder)]
    for p in given:
        kind = "dir" if isinstance(p.type, Folder) else "file"
        flag = [p.opts[0]] if isinstance(p, click.Option) else []
        first = ["x"] if p.name == "data" and name in {("calibrate",), ("archive", "create")} else []
        assert completed(*name, *first, *flag, "some/pa") == [("some/pa", kind)], p.name
    assert given or name == ("models",)


@pytest.mark.parametrize("name", [n for n, c in COMMANDS.items() if any(isinstance(p.type, Model) for p in c.params)])
def test_models_complete(name):
    flag = [] if name == ("calibrate",) else ["--model"]
    found = [value for value, kind in completed(*name, *flag, "phot") if kind == "plain"]
    assert {"photo", "photo-10"} <= set(found)
    assert all(value.startswith("phot") for value in found)
    assert completed(*name, *flag, "./run") == [("./run", "file")]


def test_words_complete():
    assert [v for v, _ in completed("train", "d", "--preset", "pho")] == ["photo", "photo-gpu", "photo-bands"]
    assert [v for v, _ in completed("decode", "a", "--recon", "")] == ["mean", "flow", "sample"]
    assert [v for v, _ in completed("encode", "a", "--device", "c")] == ["cpu", "cuda"]
    assert [v for v, _ in completed("bpd", "a", "--steps", "")] == ["inf", "codec"]
    assert "archive" in [v for v, _ in completed("a")]
    # words before the one that is completed may be wrong
    assert completed("encode", "--model", "none", "--device", "none", "x") == [("x", "file")]


@pytest.fixture
def program(tmp_path):
    """A folder with the command in it, for a PATH; it says on stderr if completing has loaded torch."""
    script = tmp_path / "bin/ddpm-codec"
    script.parent.mkdir()
    script.write_text(
        f"#!{sys.executable}\nimport sys\nsys.modules['torch'] = None\nfrom codec.cli import main\nmain()\n"
    )
    script.chmod(0o755)
    return script


@pytest.mark.parametrize(
    ("shell", "words", "answer"),
    [
        ("bash", "ddpm-codec encode pi", "file,pi"),
        ("bash", "ddpm-codec train data -o ru", "dir,ru"),
        ("bash", "ddpm-codec decode a.ddpm --model cifar10-5", "plain,cifar10-5"),
        ("zsh", "ddpm-codec encode pi", "file\npi\n_"),
        ("fish", "ddpm-codec encode pi", "file,pi"),
    ],
)
def test_the_command_answers_shells_without_torch(program, shell, words, answer):
    environment = {**os.environ, "_DDPM_CODEC_COMPLETE": f"{shell}_complete", "COMP_WORDS": words}
    environment["COMP_CWORD"] = words.split()[-1] if shell == "fish" else str(len(words.split()) - 1)
    done = subprocess.run([program], env=environment, capture_output=True, text=True, timeout=600)
    assert (done.stdout.strip(), done.stderr) == (answer, "")


@pytest.mark.skipif(not shutil.which("bash"), reason="bash is not here")
def test_bash_completes(program, tmp_path):
    """The script of the README in a shell with a terminal, where the tab key is pressed."""
    (tmp_path / "one picture.png").write_bytes(b"")
    environment = {**os.environ, "PATH": f"{program.parent}:{os.environ['PATH']}", "PS1": "> ", "TERM": "dumb"}
    master, slave = pty.openpty()
    bash = subprocess.Popen(
        ["bash", "--norc", "--noprofile", "-i"],
        cwd=tmp_path,
        env=environment,
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
    )
    os.close(slave)

    def shows(pattern, seconds=200):
        seen, end = "", time.monotonic() + seconds
        while time.monotonic() < end and not re.search(pattern, seen):
            if select.select([master], [], [], 1)[0]:
                seen += os.read(master, 4096).decode(errors="replace")
        assert re.search(pattern, seen), seen

    try:
        os.write(master, b'eval "$(_DDPM_CODEC_COMPLETE=bash_source ddpm-codec)"; echo rea"dy"\n')
        shows(r"\nready")
        os.write(master, b"ddpm-codec encode one\t")
        shows(r"encode one\\ picture\.png")
        os.write(master, b" --model cifar10-\t")
        shows(r"--model cifar10-5 ")
        os.write(master, b"--psn\t")
        shows(r"--psnr")
    finally:
        bash.kill()
        bash.wait()
        os.close(master)
