"""What the documents point to is there: links, headings, definitions, paths, modules, targets of make, commands."""

import ast
import re
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml

from codec.cli import cli
from tests.house import ROOT

FORMS = sorted((ROOT / ".github").rglob("*.md"))
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *FORMS])
CODE = re.compile(r"```\w*\n(.*?)```|(?<!`)`([^`\n]+)`", re.S)
PATH = re.compile(r"(?<![\w./-])((?:bench|codec|ddpm|docs|tests|\.github)/[\w./*-]*)")
NAMED = re.compile(r"\b(?:NAME|FILE)\b")  # a place for a name
TO_COME = re.compile(r"photo-10|docs/api")  # what a reader makes


def named(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def found(pattern: str, code_only: bool = True) -> list:
    """(page, what is found in its code, or anywhere in it), as parameters."""
    out = []
    for page in PAGES:
        text = page.read_text()
        if code_only:
            text = "\n".join("".join(parts) for parts in CODE.findall(text))
        out += [(page, what) for what in sorted(set(re.findall(pattern, text)))]
    words = [what if isinstance(what, str) else " at ".join(what) for _, what in out]
    return [pytest.param(*both, id=f"{named(both[0])}: {says}") for both, says in zip(out, words)]


@pytest.mark.parametrize(("page", "link"), found(r"\[([^][]*)\]\(([^()\s]*)\)", code_only=False))
def test_links(page, link):
    """To a file or folder, a heading of a page, or (of a name in code) to where it is defined."""
    text, target = link
    if target.startswith("https://"):
        return
    name, _, place = target.partition("#")
    path = page.parent / name if name else page
    assert path.exists()
    if place:
        headings = re.findall(r"^#+ (.*)$", path.read_text(), re.M)
        assert place in [re.sub(r"[^\w -]", "", h).lower().replace(" ", "-") for h in headings]
    if text.startswith("`") and path.suffix == ".py":
        assert text.strip("`") in definitions(path)


def definitions(path: Path) -> set[str]:
    """Names of functions, methods and classes, and of what is assigned at the top."""
    tree = ast.parse(path.read_text())
    assigned = (node for statement in tree.body if isinstance(statement, ast.Assign) for node in statement.targets)
    names = {node.id for target in assigned for node in ast.walk(target) if isinstance(node, ast.Name)}
    return names | {node.name for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.ClassDef))}


@pytest.mark.parametrize(("page", "path"), found(PATH.pattern))
def test_paths(page, path):
    """Any of the house, from its root; with * for some of them."""
    path = path.rstrip(".")
    if not NAMED.search(path) and not TO_COME.search(path):
        assert path.endswith("/") <= (ROOT / path).is_dir()
        assert list(ROOT.glob(path.rstrip("/")))


@pytest.mark.parametrize(("page", "module"), found(r"\bpython[\d.]* -m ((?:bench|codec|ddpm|docs|tests)\b[\w.]*)"))
def test_modules_that_are_run(page, module):
    path = ROOT / module.rstrip(".").replace(".", "/")
    assert path.with_suffix(".py").is_file() or (path / "__main__.py").is_file()


@pytest.mark.parametrize(("page", "target"), found(r"\bmake ([a-z-]+)\b"))
def test_targets_of_make(page, target):
    assert target in re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M)


@pytest.mark.parametrize(("page", "command"), found(r"\bddpm-codec ([a-z]+)\b"))
def test_commands(page, command):
    assert command in cli.commands


@pytest.mark.parametrize("page", FORMS, ids=named)
def test_forms_have_a_head(page):
    _, head, body = page.read_text().split("---\n", 2)
    assert {"name", "about"} <= yaml.safe_load(head).keys()
    assert body.strip()


def test_what_the_citation_says_is_the_package_s():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert cited["title"] == project["name"]
    assert cited["license"] == project["license"]
    assert cited["abstract"] == project["description"]
    assert [a["name"] for a in cited["authors"]] == [a["name"] for a in project["authors"]]


def test_the_version_stands_in_one_place():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert version("ddpm-codec") == project["version"]
    sources = [p for folder in ("bench", "codec", "ddpm", "tests") for p in (ROOT / folder).rglob("*.py")]
    written = [p for p in [*sources, *PAGES] if f'"{project["version"]}"' in p.read_text()]
    assert not written
