"""One bad picture loses nothing else, a batch can be taken up again, and every command reads by the same rules."""

import io
import json
import struct
import sys
import zlib
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from codec.api import Codec, inspect
from codec.format.container import checksum
from codec.images.formats import picture_bytes
from codec.images.pictures import load_picture, png_bytes
from codec.target import Target
from tests.cli.conftest import exit_code
from tests.conftest import smooth_picture

T = 8


@pytest.fixture
def run(models, tmp_path, monkeypatch, capsys):
    """The command line in this process: (stdout, lines of stderr)."""

    def call(*arguments, code=0):
        monkeypatch.chdir(tmp_path)
        got = exit_code(monkeypatch, *arguments)
        out = capsys.readouterr()
        assert got == code, out.err
        return out.out, out.err.strip().splitlines()

    return call


def save(path, array, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def deep_png():
    head = struct.pack(">IIBBBBB", 16, 16, 16, 2, 0, 0, 0)
    rows = zlib.compress(16 * (b"\0" + bytes(96)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@pytest.fixture
def pictures(tmp_path):
    """Two good pictures among all kinds of bad ones, and a file that is none."""
    folder = tmp_path / "in"
    save(folder / "a.png", smooth_picture(16, 16))
    save(folder / "z.png", smooth_picture(16, 16, 1))
    (folder / "deep.png").write_bytes(deep_png())
    Image.new("CMYK", (16, 16)).save(folder / "four.jpg")
    save(folder / "clear.png", np.dstack([smooth_picture(16, 16), np.full((16, 16), 9, np.uint8)]))
    (folder / "cut.png").write_bytes(png_bytes(smooth_picture(16, 16))[:80])
    (folder / "broken.avif").write_bytes(b"\0\0\0\x20ftypavif" + bytes(40))
    (folder / "notes.txt").write_text("no picture")
    return folder


BAD = {
    "deep.png": "more than 8 bits",
    "four.jpg": "CMYK",
    "clear.png": "transparency",
    "cut.png": "truncated",
    "broken.avif": "",
}


def errors_of(lines):
    return [line for line in lines if line.startswith("error: ")]


def check_all_named(lines, bad=BAD, prefix="error: "):
    lines = [line for line in lines if line.startswith(prefix)]
    for name, words in bad.items():
        [line] = [line for line in lines if name in line]
        assert words in line
    assert len(lines) == len(bad)


def test_encode_writes_the_good_ones_and_names_the_bad(run, pictures, tmp_path):
    _, lines = run("encode", pictures, "-o", "out", "--model", "tiny", "--rate", "0.5", code=2)
    check_all_named(lines)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["a.ddpm", "z.ddpm"]
    assert any("1 file is no picture: passed over" in line for line in lines)


def test_decode_writes_the_good_ones_and_names_the_bad(run, pictures, tmp_path):
    run("encode", pictures / "a.png", pictures / "z.png", "-o", "out/", "--model", "tiny", "--rate", "0.5")
    (tmp_path / "out/b.ddpm").write_bytes(b"\x07" * 50)
    (tmp_path / "out/c.ddpm").write_bytes(b"")
    _, lines = run("decode", "out", "-o", "back/", code=2)
    check_all_named(lines, {"b.ddpm": "", "c.ddpm": ""})
    assert sorted(p.name for p in (tmp_path / "back").iterdir()) == ["a.png", "z.png"]


def test_what_only_decoding_finds_wrong_loses_one_file_only(run, tmp_path):
    """The pixels' own checksum, under a right one of the file: as of a machine that computes otherwise."""
    codec = Codec("tiny-1")
    files = codec.encode([smooth_picture(16, 16, seed=i) for i in range(3)], Target(lossless=True), store=False)
    data = bytearray(files[1].data)
    opened = codec.open(bytes(data))
    data[opened.parts["pixels"][0]] ^= 1
    head = opened.info.header_bytes
    data[-2:] = checksum(bytes(data[:head]), bytes(data[head:-2]), codec.model.fingerprint)
    (tmp_path / "out").mkdir()
    for name, content in zip("abc", (files[0].data, data, files[2].data)):
        (tmp_path / f"out/{name}.ddpm").write_bytes(content)
    _, lines = run("decode", "out", "-o", "back/", code=2)
    check_all_named(lines, {"b.ddpm": ""})
    assert sorted(p.name for p in (tmp_path / "back").iterdir()) == ["a.png", "c.png"]


@pytest.mark.parametrize("failure", [KeyError("x"), ZeroDivisionError("division"), MemoryError(), RuntimeError("odd")])
def test_what_nobody_expected_loses_one_batch_only(run, pictures, tmp_path, monkeypatch, failure):
    save(tmp_path / "other.png", smooth_picture(8, 16))
    names = pictures / "a.png", tmp_path / "other.png", pictures / "z.png"
    encode, decode = Codec.encode, Codec.decode

    def failing(real, fails):
        def call(self, items, *more, **options):
            if fails(items):
                raise failure
            return real(self, items, *more, **options)

        return call

    monkeypatch.setattr(Codec, "encode", failing(encode, lambda items: items[0].array.shape[0] == 16))
    _, lines = run("encode", *names, "-o", "out/", "--model", "tiny", "--rate", "0.5", code=2)
    check_all_named(lines, {"a.png": "", "z.png": ""})
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["other.ddpm"]
    monkeypatch.setattr(Codec, "encode", encode)
    run("encode", *names, "-o", "out/", "--model", "tiny", "--rate", "0.5", "--force")
    monkeypatch.setattr(Codec, "decode", failing(decode, lambda items: inspect(items[0]).header.height == 16))
    _, lines = run("decode", "out", "-o", "back/", code=2)
    check_all_named(lines, {"a.ddpm": "", "z.ddpm": ""})
    assert [p.name for p in (tmp_path / "back").iterdir()] == ["other.png"]


def test_a_batch_is_taken_up_again(run, pictures, tmp_path):
    names = pictures / "a.png", pictures / "z.png"
    run("encode", names[0], "-o", "out/", "--model", "tiny", "--rate", "0.5")
    first = (tmp_path / "out/a.ddpm").stat()
    _, lines = run("encode", *names, "-o", "out/", "--model", "tiny", "--rate", "0.5", "--skip-existing")
    assert lines == ["1 exists: left alone"]
    assert (tmp_path / "out/a.ddpm").stat() == first
    _, lines = run("encode", *names, "-o", "out/", "--model", "tiny", "--rate", "0.5", "--skip-existing")
    assert lines == ["2 exist: left alone"]
    out, _ = run("encode", *names, "-o", "out/", "--model", "tiny", "--rate", "0.5", "--skip-existing", "--json")
    assert json.loads(out) == []
    (tmp_path / "back").mkdir()
    (tmp_path / "back/a.png").write_bytes(b"mine")
    _, lines = run("decode", "out", "-o", "back", "--skip-existing")
    assert lines == ["1 exists: left alone"]
    assert (tmp_path / "back/a.png").read_bytes() == b"mine"
    assert (tmp_path / "back/z.png").exists()


@pytest.mark.parametrize("command", ["encode", "decode"])
def test_an_input_is_not_touched_by_taking_up_again(run, tmp_path, command):
    save(tmp_path / "a.png", smooth_picture(16, 16))
    run("encode", "a.png", "--model", "tiny", "--rate", "0.5")
    name = "a.png" if command == "encode" else "a.ddpm"
    before = (tmp_path / name).read_bytes()
    arguments = ["--model", "tiny", "--rate", "0.5"] if command == "encode" else []
    (tmp_path / "link.png").symlink_to(name)
    _, lines = run(command, name, "-o", "link.png", *arguments, "--skip-existing", code=2)
    assert "is an input too" in lines[0]
    assert (tmp_path / name).read_bytes() == before
    _, lines = run(command, name, *arguments, "--skip-existing", "--force", code=2)
    assert lines == ["error: say either --force or --skip-existing"]


def test_archives_refuse_as_a_whole_or_leave_out(run, pictures, tmp_path):
    bad = {k: v for k, v in BAD.items() if k != "clear.png"}  # archives keep transparency
    arguments = "archive", "create", "a.ddpma", pictures, "--model", "tiny", "--steps", T
    _, lines = run(*arguments, code=2)
    check_all_named(lines, bad)
    assert not (tmp_path / "a.ddpma").exists()
    _, lines = run(*arguments, "--skip-bad")
    check_all_named(lines, bad, "warning: left out: ")
    out, _ = run("archive", "list", "a.ddpma", "--json")
    assert [f["name"] for f in json.loads(out)["files"]] == ["a.png", "clear.png", "z.png"]
    (tmp_path / "a").mkdir()
    (tmp_path / "a/z.png").write_bytes(b"mine")
    _, lines = run("archive", "extract", "a.ddpma", "--skip-existing")
    assert lines == ["1 exists: left alone"]
    assert (tmp_path / "a/z.png").read_bytes() == b"mine"
    assert np.array_equal(np.asarray(Image.open(tmp_path / "a/a.png")), smooth_picture(16, 16))
    (tmp_path / "only").mkdir()
    (tmp_path / "only/cut.png").write_bytes((pictures / "cut.png").read_bytes())
    _, lines = run("archive", "create", "b.ddpma", "only", "--model", "tiny", "--steps", T, "--skip-bad", code=2)
    check_all_named(lines, {"cut.png": "truncated"})


def test_bpd_refuses_as_a_whole_or_leaves_out(run, pictures):
    arguments = "bpd", pictures, "--model", "tiny", "--steps", T
    _, lines = run(*arguments, code=2)
    check_all_named(lines)
    assert any("1 file is no picture: passed over" in line for line in lines)
    out, lines = run(*arguments, "--skip-bad", "--json")
    check_all_named(lines, prefix="warning: left out: ")
    assert json.loads(out)["images"] == 2
    two = "bpd", pictures / "deep.png", pictures / "four.jpg", "--model", "tiny", "--steps", T
    _, lines = run(*two, code=2)
    check_all_named(lines, {"deep.png": "8 bits", "four.jpg": "CMYK"})


def test_train_refuses_as_a_whole_or_leaves_out(run, pictures, tmp_path):
    arguments = "train", pictures, "-o", "run", "--preset", "tiny", "--minutes", "0.0001", "--quiet"
    settings = "--set", "crop=16", "--set", "compile=false"
    _, lines = run(*arguments, *settings, code=2)
    check_all_named(lines)
    _, lines = run(*arguments, *settings, "--skip-bad")
    check_all_named(lines, prefix="warning: left out: ")


def test_calibrate_refuses_as_a_whole_or_leaves_out(run, pictures, tmp_path, monkeypatch):
    from codec.calibration import release

    seen, tables = [], SimpleNamespace(to_card=dict)
    monkeypatch.setattr(release, "coding_tables", lambda model, batches, *_, **__: seen.append(batches) or tables)
    monkeypatch.setattr(release, "save_model", lambda *_: None)
    arguments = "calibrate", "tiny", pictures, "-o", "mine-1", "--quiet"
    _, lines = run(*arguments, code=2)
    check_all_named(lines)
    _, lines = run(*arguments, "--skip-bad")
    check_all_named(lines, prefix="warning: left out: ")
    assert [tuple(b.shape) for b in seen[0]] == [(2, 3, 16, 16)]


def test_pictures_that_differ_in_their_suffix_alone_keep_it(run, tmp_path):
    save(tmp_path / "in/a.png", smooth_picture(16, 16))
    save(tmp_path / "in/a.webp", smooth_picture(16, 16, 1), lossless=True)
    save(tmp_path / "in/b.png", smooth_picture(16, 16, 2))
    run("encode", "in", "-o", "out", "--model", "tiny", "--rate", "0.5")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["a.png.ddpm", "a.webp.ddpm", "b.ddpm"]
    run("archive", "create", "a.ddpma", "in", "--model", "tiny", "--steps", T)
    out, _ = run("archive", "list", "a.ddpma", "--json")
    assert [f["name"] for f in json.loads(out)["files"]] == ["a.png", "a.webp.png", "b.png"]
    save(tmp_path / "more/b.png", smooth_picture(16, 16, 3))
    both = tmp_path / "in/b.png", tmp_path / "more/b.png"
    for command in (["encode", *both, "-o", "out2/", "--rate", "0.5"], ["archive", "create", "b.ddpma", *both]):
        _, [line] = run(*command, "--model", "tiny", code=2)
        assert str(both[0]) in line
        assert str(both[1]) in line


def test_folders_have_pictures_of_every_kind(run, tmp_path):
    names = ["a.avif", "b.jp2", "c.pgm", "d.tga", "e.ico", "f.jfif", "g.qoi", "h.PNG"]
    for i, name in enumerate(names):
        options = {"format": "JPEG"} if name == "f.jfif" else {}
        save(tmp_path / "in" / name, smooth_picture(16, 16, i, 1 if name == "c.pgm" else 3), **options)
    (tmp_path / "in/a.txt").write_text("")
    (tmp_path / "in/b.pdf").write_text("")
    _, lines = run("encode", "in", "-o", "out", "--model", "tiny", "--rate", "0.5")
    assert sorted(p.stem for p in (tmp_path / "out").iterdir()) == list("abcdefgh")
    assert lines == ["warning: in: 2 files are no pictures: passed over"]


def test_lossless_keeps_the_levels_and_lossy_says_what_it_converts(run, tmp_path):
    from ddpm.images.colour import PRIMARIES, SRGB_CURVE, make_profile

    array = smooth_picture(16, 16)
    profile, exif = make_profile(PRIMARIES[12], SRGB_CURVE), Image.Exif()
    exif[0x010F] = "maker"
    (tmp_path / "a.png").write_bytes(picture_bytes(array, "a.png", profile, exif.tobytes(), b"<x/>"))
    for name in ("b.png", "b.webp", "b.tif"):
        run("encode", "a.png", "--model", "tiny", "--lossless", "--keep-metadata", "--force")
        run("decode", "a.ddpm", "-o", name)
        back = load_picture(tmp_path / name, colours="stored", metadata=True)
        assert np.array_equal(back.array, array)
        assert back.icc == profile
        assert back.xmp == (None if name == "b.tif" else b"<x/>")
        assert (b"maker" in (back.exif or b"")) == (name != "b.tif")
    _, [line] = run("decode", "a.ddpm", "-o", "b.ppm", code=2)
    assert "colour profile" in line
    _, lines = run("archive", "create", "a.ddpma", "a.png", "--model", "tiny", "--steps", T)
    assert lines == ["warning: the colours of 1 picture have been converted to sRGB"]


def test_warnings_name_the_file_and_the_picture_is_taken(run, tmp_path):
    save(tmp_path / "a.png", smooth_picture(16, 16), icc_profile=b"no profile")
    for command in (
        ["encode", "a.png", "--rate", "0.5"],
        ["bpd", "a.png", "--steps", T],
        ["archive", "create", "a.ddpma", "a.png", "--steps", T],
    ):
        _, [line] = run(*command, "--model", "tiny", "--quiet", *(["--json"] if command[0] == "bpd" else []))
        assert line.startswith("warning: a.png: its ICC profile is damaged")


def test_standard_input_is_named(run, monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(deep_png())))
    _, [line] = run("encode", "-", "-o", "a.ddpm", "--model", "tiny", "--rate", "0.5", code=2)
    assert line.startswith("error: standard input: more than 8 bits")
