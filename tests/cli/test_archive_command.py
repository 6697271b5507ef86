"""``ddpm-codec archive``: folders and contact sheets in, the same pictures out, and one line for what is wrong."""

import json

import numpy as np
import pytest
from PIL import Image

from codec.archive import create
from tests.cli.conftest import exit_code
from tests.codec.test_archive import T, some_pictures
from tests.conftest import smooth_picture


@pytest.fixture(scope="module")
def made(model):
    return create(some_pictures(), model, T, store=False)


def run(capsys, monkeypatch, *args, code=0):
    got = exit_code(monkeypatch, "archive", *args)
    out = capsys.readouterr()
    assert got == code, out.err
    if code:
        [line] = [line for line in out.err.strip().splitlines() if "passed over" not in line]
        assert line.startswith("error: ")
        return line
    return json.loads(out.out) if "--json" in args else out.out


@pytest.fixture
def folder(tmp_path, models):
    for name, array in some_pictures():
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(array).save(tmp_path / "in" / name)
    (tmp_path / "in" / "notes.txt").write_text("no picture")
    return tmp_path


def test_command_line(capsys, monkeypatch, folder):
    out, source = folder / "a.ddpma", folder / "in"
    fields = run(capsys, monkeypatch, "create", out, source, "--model", "tiny", "--steps", T, "--json")
    assert fields["bytes"] == out.stat().st_size
    assert (fields["pictures"], fields["steps"], fields["model"]) == (len(some_pictures()), T, "tiny-1")
    assert fields["bits_per_dim"] == pytest.approx(8 * fields["bytes"] / fields["dims"])
    rows = run(capsys, monkeypatch, "list", out, "--json")
    assert {(r["name"], r["width"], r["height"], r["grey"]) for r in rows["files"]} == {
        (name, array.shape[1], array.shape[0], array.shape[2:] in ((), (2,))) for name, array in some_pictures()
    }
    assert "large.png" in run(capsys, monkeypatch, "list", out)
    assert run(capsys, monkeypatch, "verify", out, "--json")["pictures"] == len(some_pictures())
    run(capsys, monkeypatch, "extract", out, "-o", folder / "back", "--quiet")
    for name, array in some_pictures():
        assert np.array_equal(np.asarray(Image.open(folder / "back" / name)), array)
    assert "exists" in run(capsys, monkeypatch, "extract", out, "-o", folder / "back", code=2)
    run(capsys, monkeypatch, "extract", out, "-o", folder / "back", "--force")
    assert "exists" in run(capsys, monkeypatch, "create", out, source, "--model", "tiny", code=2)


def test_contact_sheets_are_cut(capsys, monkeypatch, tmp_path, models):
    Image.fromarray(smooth_picture(16, 48)).save(tmp_path / "sheet.png")
    args = "create", tmp_path / "a", tmp_path / "sheet.png", "--tile", 16, "--model", "tiny", "--steps", T
    assert run(capsys, monkeypatch, *args, "--json")["pictures"] == 3
    names = [r["name"] for r in run(capsys, monkeypatch, "list", tmp_path / "a", "--json")["files"]]
    assert names == ["sheet/00000.png", "sheet/00001.png", "sheet/00002.png"]


def test_one_line_for_what_is_wrong(capsys, monkeypatch, folder, made):
    (folder / "alien").write_bytes(b"not an archive")
    (folder / "cut").write_bytes(made[:-50])
    (folder / "empty").mkdir()
    (folder / "bad.png").write_bytes(b"no picture")
    Image.fromarray(smooth_picture(4, 4)).save(folder / "grey.png")
    where = ["-o", folder / "nowhere"]
    for arguments, words in [
        (["extract", folder / "alien", *where], "not a ddpm-codec archive"),
        (["extract", folder / "cut", *where], "every picture needs the end"),
        (["verify", folder / "cut"], "every picture needs the end"),
        (["list", folder / "none"], "No such file"),
        (["create", folder / "x", folder / "empty", "--model", "tiny"], "no images"),
        (["create", folder / "x", folder / "none", "--model", "tiny"], "No such file"),
        (["create", folder / "x", folder / "bad.png", "--model", "tiny"], "not an image"),
        (["create", folder / "x", folder / "in", "--model", "none"], "no model"),
        (["create", folder / "x", folder / "in", folder / "grey.png", "--model", "tiny"], "same name"),
        (["create", folder / "x", folder / "in", "--model", "tiny", "--steps", "1"], "steps"),
    ]:
        assert words in run(capsys, monkeypatch, *arguments, code=2)
    assert not (folder / "x").exists()
    assert not (folder / "nowhere").exists()
    assert run(capsys, monkeypatch, "list", folder / "cut", "--json")["complete"] is False


def test_links_do_not_lead_out_of_the_folder(capsys, monkeypatch, folder, made):
    (folder / "a").write_bytes(made)
    (folder / "out").mkdir()
    (folder / "elsewhere").mkdir()
    (folder / "out" / "small").symlink_to(folder / "elsewhere")
    assert "outside" in run(capsys, monkeypatch, "extract", folder / "a", "-o", folder / "out", code=2)
    assert not list((folder / "elsewhere").iterdir())
