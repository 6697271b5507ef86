"""constraints.txt pins all that ``make`` installs: what the package and its tests need, what that needs, the build."""

import re
import tomllib
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PINNED = {
    canonicalize_name(line.partition("==")[0]): line.partition("==")[2]
    for line in (ROOT / "constraints.txt").read_text().splitlines()
}


def needed(requirements) -> set[str]:
    """Names of all distributions that these requirements lead to here."""
    found, todo = set(), [Requirement(r) for r in requirements]
    while todo:
        wanted = todo.pop()
        key = canonicalize_name(wanted.name), frozenset(wanted.extras)
        if key in found:
            continue
        found.add(key)
        try:
            further = distribution(wanted.name).requires or ()
        except PackageNotFoundError:  # an extra of another platform, or what only builds
            continue
        for r in map(Requirement, further):
            if r.marker is None or any(r.marker.evaluate({"extra": e}) for e in ("", *wanted.extras)):
                todo.append(r)
    return {name for name, _ in found}


def extras(*names: str) -> list[str]:
    """What other extras ask for, by pyproject.toml: they may not be installed."""
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    return [requirement for name in names for requirement in listed[name]]


def build_requirements() -> list[str]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]


def test_all_that_make_installs_is_pinned():
    names = needed(["ddpm-codec[test]", *extras("docs", "coverage"), *build_requirements()]) - {"ddpm-codec"}
    assert {"torch", "pytest-xdist", "setuptools", "pillow-jxl-plugin", "pdoc", "coverage"} <= names
    assert not sorted(name for name in names - PINNED.keys() if not name.startswith(("nvidia-", "cuda-", "triton")))


def test_pins_are_exact_and_within_what_the_package_asks_for():
    assert all(re.fullmatch(r"[0-9][0-9a-z.]*", version) for version in PINNED.values()), PINNED
    asked = map(Requirement, [*distribution("ddpm-codec").requires, *extras("test", "docs", "coverage")])
    outside = [str(r) for r in asked if (v := PINNED.get(canonicalize_name(r.name))) and not r.specifier.contains(v)]
    assert not outside
