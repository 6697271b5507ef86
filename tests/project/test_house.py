"""The house stands: imports go down and never round, files and functions are short. docs/architecture.md shows it."""

import re

import pytest

from tests import house, house_picture

PICTURE = (house.ROOT / "docs" / "architecture.svg").read_text()
PAGE = (house.ROOT / "docs" / "architecture.md").read_text()

FILES = {"bench": 25, "codec": 15}  # at the top of a package, at most


def test_packages_import_one_way():
    found = {(a.partition(".")[0], b.partition(".")[0]) for a, those in house.imports().items() for b in those}
    across = {(a, b) for a, b in found if a != b}
    assert across == {("bench", "codec"), ("bench", "ddpm"), ("codec", "ddpm")}


@pytest.mark.parametrize("package", house.ORDER)
def test_every_room_has_its_floor(package):
    assert house.floors(package).keys() == {r for r in house.rooms() if r == package or r.startswith(f"{package}/")}


@pytest.mark.parametrize("package", house.ORDER)
def test_rooms_import_downward(package):
    assert not house.upward(package)


def test_no_module_imports_what_imports_it():
    assert not house.circles()


@pytest.mark.parametrize("package", FILES)
def test_few_files_lie_at_the_top(package):
    assert len(list((house.ROOT / package).glob("*.py"))) <= FILES[package]


def test_nothing_is_too_long():
    """``python -m tests.house --overlong`` names what is."""
    assert not house.overlong()


@pytest.mark.parametrize("package", house.ORDER)
def test_the_picture_has_today_s_rooms_and_arrows(package):
    """Else ``python -m tests.house -o docs/architecture.svg``. The numbers of lines in it may be of another day."""
    arrows = set(re.findall(rf'id="({package}[\w.]*-{package}[\w.]*)"', PICTURE))
    assert arrows == {house_picture.label(a, b) for a, b in house_picture.arrows(package)}
    names = {room.partition("/")[2] or "commands" for room in house_picture.ranks(package)}
    assert names <= set(re.findall(r">([a-z_]+)</text>", PICTURE))


@pytest.mark.parametrize("room", sorted(house.rooms()))
def test_the_page_says_what_a_room_is_for(room):
    assert room.endswith("__") or f"`{room}{'/' if (house.ROOT / room).is_dir() else '.py'}`" in PAGE


def test_limits_see_what_they_are_for(tmp_path, monkeypatch):
    """Imports of every form, lengths from ``def`` on, arguments without self and without those after the star."""
    (tmp_path / "tests").mkdir()
    package = tmp_path / "codec" / "lossy"
    package.mkdir(parents=True)
    body = "    x = 0\n"
    sources = {
        "codec/__init__.py": "",
        "codec/lossy/__init__.py": "",
        "codec/errors.py": "class Wrong(Exception): ...\n",
        "codec/lossy/a.py": "def f():\n    from .b import g\nfrom typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    import codec.errors\n",
        "codec/lossy/b.py": "from . import a\nfrom ..errors import Wrong\ndef g(): ...\n",
        "codec/long.py": "x = 0\n" * 351,
        "codec/explained.py": '"""One file because it is one table."""\n' + "x = 0\n" * 350,
        "codec/functions.py": "def just():\n" + body * 59 + "def over():\n" + body * 60,
        "codec/arguments.py": "class C:\n    def just(self, a, b, c, d, e, *, g): ...\n"
        "    def over(self, a, b, c, d, e, f): ...\n    @staticmethod\n    def s(a, b, c, d, e, f): ...\n"
        "    def _own(self, a, b, c, d, e, f): ...\n@cli.command()\ndef command(a, b, c, d, e, f):\n"
        "    def inner(a, b, c, d, e, f): ...\n",
    }
    for name, text in sources.items():
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(house, "ROOT", tmp_path)
    house.modules.cache_clear()
    house.imports.cache_clear()
    try:
        assert house.imports()["codec.lossy.a"] == {"codec.lossy.b", "codec.errors"}
        assert house.imports()["codec.lossy.b"] == {"codec.lossy.a", "codec.errors"}
        assert house.circles() == {frozenset({"codec.lossy.a", "codec.lossy.b"})}
        assert house.arrows() == {("codec/lossy", "codec/errors")}
        assert house.rooms()["codec/lossy"] == 8
        assert house.overlong() == [
            "file codec/long.py",
            "function codec/functions.py over",
            "arguments codec/arguments.py C.over",
            "arguments codec/arguments.py C.s",
        ]
    finally:
        house.modules.cache_clear()
        house.imports.cache_clear()
