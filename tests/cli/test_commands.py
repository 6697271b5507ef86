"""What the commands take and say: forms of naming the output, sizes, qualities, counts of one."""

import json
import os
import re
import shlex
import stat
import sys
from pathlib import Path

import click
import numpy as np
import pytest
from PIL import Image

from codec import CodecError, Target
from codec.cli.app import main
from codec.cli.types import Bytes
from codec.images.pictures import png_bytes
from codec.target import COARSEST, FINEST, QUALITY
from ddpm.files import write_whole
from tests.conftest import smooth_picture

README = Path(__file__).parents[2] / "README.md"


@pytest.fixture
def run(models, tmp_path, monkeypatch, capsys):
    """The command in this process, in a folder with two pictures."""
    for name, seed in (("a.png", 0), ("b.png", 1)):
        (tmp_path / name).write_bytes(png_bytes(smooth_picture(16, 24, seed)))
    monkeypatch.chdir(tmp_path)

    def call(*arguments, code=0):
        monkeypatch.setattr(sys, "argv", ["ddpm-codec", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            main()
        said = capsys.readouterr()
        assert (caught.value.code or 0) == code, said.err
        return said

    return call


TINY = ("--model", "tiny-1")


def test_the_second_of_two_names_is_the_output(run, tmp_path):
    run("encode", "a.png", "x.DDPM", "--bytes", 90, *TINY)
    run("decode", "x.DDPM", "x.png")
    run("decode", "x.DDPM", "x.webp")
    assert [Image.open(tmp_path / n).size for n in ("x.png", "x.webp")] == [(24, 16)] * 2
    assert "x.DDPM exists; --force replaces it" in run("encode", "b.png", "x.DDPM", *TINY, code=2).err
    assert "b.png exists" in run("decode", "x.DDPM", "b.png", code=2).err
    run("encode", "b.png", "x.DDPM", "--force", "--bytes", 90, *TINY)
    # three names, or -o: all are inputs
    assert "x.ddpm: " in run("encode", "a.png", "b.png", "x.ddpm", "-o", "out", "--bytes", 90, *TINY, code=2).err
    assert "b.png: not a ddpm-codec file" in run("decode", "x.DDPM", "b.png", "-o", "out/", code=2).err
    # a folder of that name is a folder of pictures
    (tmp_path / "p.ddpm").mkdir()
    (tmp_path / "p.ddpm/c.png").write_bytes((tmp_path / "a.png").read_bytes())
    run("encode", "a.png", "p.ddpm", "--bytes", 90, *TINY)
    assert (tmp_path / "p.ddpm/c.ddpm").exists()
    assert (tmp_path / "a.ddpm").exists()


def test_formats_by_suffix(run, tmp_path):
    run("encode", "a.png", "a.ddpm", "--lossless", *TINY)
    array = np.asarray(Image.open("a.png"))
    for name in ("c.png", "c.webp", "c.ppm", "c.bmp", "c.tif"):
        assert run("decode", "a.ddpm", name).err == ""
        assert np.array_equal(np.asarray(Image.open(name)), array)
    said = run("decode", "a.ddpm", "c.jpg")
    assert re.fullmatch(r"warning: c\.jpg: .*not the very pixels\n", said.err)
    assert Image.open("c.jpg").format == "JPEG"
    assert "which .pgm cannot hold" in run("decode", "a.ddpm", "c.pgm", code=2).err
    assert not os.path.exists("c.pgm")


def test_sizes_of_files():
    convert = lambda text: Bytes().convert(text, None, None)  # noqa: E731
    for text, size in {"9000": 9000, "9kB": 9000, "9k": 9000, "9 KB": 9000, "1.5MB": 1500000, "2KiB": 2048}.items():
        assert convert(text) == size
    assert [convert(t) for t in ("1Mi", "0.5ki", "1e3".replace("e3", "000B"))] == [1 << 20, 512, 1000]
    for text in ("", "k", "9x", "-9", "9kBB", "1.2.3", "nan", "inf", "9k k"):
        with pytest.raises(click.BadParameter, match="is not a size"):
            convert(text)


def test_a_size_with_a_unit_is_the_size(run, tmp_path):
    run("encode", "a.png", "one.ddpm", "--bytes", "0.1kB", *TINY)
    run("encode", "a.png", "other.ddpm", "--bytes", "100", *TINY)
    assert (tmp_path / "one.ddpm").read_bytes() == (tmp_path / "other.ddpm").read_bytes()


def test_quality_is_a_level_of_noise_that_falls_to_the_end_of_the_code():
    for gammas in ([np.inf, *np.linspace(5.5, -9.2, 25)], [np.inf, *np.linspace(2, -9.2, 30)]):
        steps = [Target(quality=q).resolved(gammas).steps for q in range(101)]
        assert steps == sorted(steps)
        assert steps[0] >= 1
        assert steps[100] == len(gammas) - 1
        for q, k in enumerate(steps):
            level = COARSEST + (FINEST - COARSEST) * q / 100
            assert gammas[k] <= level + 1e-6 < gammas[k - 1]
    assert Target(psnr=30).resolved([np.inf, 0.0]) == Target(psnr=30)
    for wrong in ({"quality": -1}, {"quality": 100.5}, {"quality": float("nan")}, {"quality": 50, "steps": 3}):
        with pytest.raises(CodecError):
            Target(**wrong)


def test_quality_rises_and_has_a_default(run, codec):
    picture = smooth_picture(16, 24)
    files = [codec.encode([picture], Target(quality=q))[0] for q in (0, 50, 100)]
    assert [f.psnr for f in files] == sorted(f.psnr for f in files)
    assert len({len(f.data) for f in files}) == 3
    run("encode", "a.png", "default.ddpm", *TINY)
    run("encode", "a.png", "asked.ddpm", "-q", QUALITY, *TINY)
    assert Path("default.ddpm").read_bytes() == Path("asked.ddpm").read_bytes() == files[1].data


def test_a_replaced_file_keeps_its_mode(tmp_path):
    old, link, new = tmp_path / "old", tmp_path / "link", tmp_path / "new"
    old.write_bytes(b"1")
    link.symlink_to(old)
    before = os.umask(0o027)
    try:
        for mode in (0o600, 0o644, 0o664, 0o400):
            old.chmod(mode)
            for name in (old, link):
                write_whole(name, b"2")
                assert stat.S_IMODE(old.stat().st_mode) == mode
        write_whole(new, b"3")
        assert stat.S_IMODE(new.stat().st_mode) == 0o640
    finally:
        os.umask(before)


def test_info_of_files_and_archives(run):
    run("encode", "a.png", "a.ddpm", "--bytes", 90, *TINY)
    run("archive", "create", "a.ddpma", "a.png", *TINY)
    one = json.loads(run("info", "a.ddpm", "--json").out)
    assert one["bits_per_pixel"] == 8 * one["bytes"] / (16 * 24) == pytest.approx(3 * one["bits_per_dim"])
    both = json.loads(run("info", "a.ddpm", "a.ddpma", "--json").out)
    assert both[0] == one
    assert both[1]["mode"] == "archive, lossless"
    assert (both[1]["pictures"], both[1]["bytes"]) == (1, os.path.getsize("a.ddpma"))
    assert not re.search(r"\d\.\d{5}", run("info", "a.ddpm", "a.ddpma").out)
    damaged = bytearray(Path("a.ddpma").read_bytes())
    damaged[-6] ^= 1
    Path("b.ddpma").write_bytes(damaged)
    assert "b.ddpma: the words are damaged" in run("info", "b.ddpma", code=2).err
    said = run("info", "a.ddpm", "a.png", "none", code=2)
    assert "bits_per_pixel" in said.out
    assert [line.split(":")[1].strip() for line in said.err.splitlines()] == ["a.png", "none"]


def test_models_are_the_newest_of_each_line_or_all(run):
    newest = [row["name"] for row in json.loads(run("models", "--json").out)]
    every = [row["name"] for row in json.loads(run("models", "--all", "--json").out)]
    lines = lambda names: sorted({name.rpartition("-")[0] for name in names})  # noqa: E731
    assert lines(newest) == lines(every)
    assert len(newest) == len(lines(newest)) <= len(every)
    assert [line.split()[0] for line in run("models").out.splitlines()] == newest
    assert {"photo-10", "cifar10-5"} <= set(every)


def test_one_is_not_many(run):
    """No command says ``1 pictures`` or the like."""
    lines = [
        run("encode", "a.png", "--steps", 1, *TINY),
        run("decode", "a.ddpm", "c.png"),
        run("archive", "create", "a.ddpma", "a.png", *TINY),
        run("archive", "list", "a.ddpma"),
        run("archive", "verify", "a.ddpma"),
        run("archive", "extract", "a.ddpma", "-o", "back"),
        run("bpd", "a.png", *TINY, "--samples", 1),
        run("models", "--all"),
    ]
    said = " ".join(part for line in lines for part in line)
    assert not re.search(r"(?<![\d.,])1 \w+s\b", re.sub(r"\b[\d.]+ bits/", "", said)), said
    assert "1 picture," in said


def test_what_was_written_is_said(run):
    made = json.loads(run("bpd", "a.png", *TINY, "--steps", 5, "--terms", "--json", "--plot", "t.png").out)
    Path("m.json").write_text(json.dumps(made))
    assert run("plot", "m.json", "-o", "d.svg").out == "d.svg: 1 diagram\n"
    assert "t.svg" in run("bpd", "a.png", *TINY, "--steps", 5, "--terms", "--plot", "t.svg").out
    said = run("calibrate", "tiny-1", "a.png", "b.png", "-o", "own-1", "--steps", 12, "--memory", 6)
    assert said.out.startswith("own-1: tables of 2 pictures, ")
    assert said.out.endswith("next: ddpm-codec encode PICTURE --model own-1\n")


def test_the_steps_of_the_code_have_one_bar_and_one_count(run, monkeypatch, tmp_path):
    from codec import terms
    from ddpm.diffusion import bound

    bars = []

    class Bar(terms.tqdm):
        def __init__(self, *arguments, **options):
            if not options["disable"]:
                bars.append(self)
            super().__init__(*arguments, **{**options, "disable": options["disable"] or False})

    monkeypatch.setattr(terms, "tqdm", Bar)
    monkeypatch.setattr(bound, "tqdm", Bar)
    (tmp_path / "c.png").write_bytes(png_bytes(smooth_picture(12, 12, 3)))
    found = json.loads(run("bpd", ".", *TINY, "--steps", "codec", "--json").out)
    [bar] = bars
    assert bar.n == bar.total > 0
    least, most = found["steps"] if isinstance(found["steps"], list) else [found["steps"]] * 2
    assert least <= most
    assert found["images"] == 3


@pytest.fixture
def named(models, tmp_path_factory, monkeypatch):
    """``photo`` and ``cifar10`` mean a small model."""
    folder = tmp_path_factory.mktemp("named")
    for file in models.glob("tiny-1.*"):
        for line in ("photo", "cifar10"):
            (folder / f"{line}-99{file.suffix}").write_bytes(file.read_bytes())
    monkeypatch.setenv("DDPM_CODEC_MODELS", str(folder))


def test_the_lines_of_the_readme_do_not_collide(run, named, tmp_path):
    block = README.read_text().split("## Use")[1].split("```sh\n")[1].split("```")[0]
    lines = [line for line in block.splitlines() if line.startswith("ddpm-codec ")]
    assert len(lines) > 8
    (tmp_path / "photo.png").write_bytes(png_bytes(smooth_picture(20, 20)))
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures/1.png").write_bytes(png_bytes(smooth_picture(16, 16)))
    for line in lines:
        run(*shlex.split(line, comments=True)[1:])
