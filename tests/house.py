"""The map of the house, read from its source: which module imports which, and how long things are.

    python -m tests.house -o docs/architecture.svg     # the picture of docs/architecture.md
    python -m tests.house --overlong                   # what is beyond the limits, if anything is

Every import counts, also one inside a function or for annotations only: whoever reads a module reads those too. A
module may be imported through its package's ``__init__``; the arrow is drawn to where the name is looked up.
"""

from __future__ import annotations

import argparse
import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
# From top to bottom: a room imports only what stands below it; those of one floor know nothing of each other.
ORDER = {
    "bench": [
        ["bench"],
        ["bench/reporting"],
        ["bench/harness"],
        ["bench/baselines", "bench/channels", "bench/metrics"],
    ],
    "codec": [
        ["codec/__main__"],
        ["codec/cli"],
        ["codec/__init__"],
        ["codec/archive", "codec/calibration"],
        ["codec/api"],
        ["codec/encoder", "codec/decoder"],
        ["codec/format"],
        ["codec/terms"],
        ["codec/lossless"],
        ["codec/lossy"],
        ["codec/channel"],
        ["codec/randomness"],
        [f"codec/{name}" for name in ("batch", "choices", "device", "diagrams", "images", "process", "target")],
        ["codec/errors"],
    ],
    "ddpm": [
        ["ddpm/__init__"],
        ["ddpm/training"],
        ["ddpm/models"],
        ["ddpm/exact"],
        ["ddpm/diffusion", "ddpm/images", "ddpm/networks"],
        ["ddpm/compiled", "ddpm/files", "ddpm/groups", "ddpm/machine"],
        ["ddpm/errors"],
    ],
}
LINES, FUNCTION, POSITIONAL = 350, 60, 5  # at most: of a file, of a function; arguments of a public one by position
REASON = "One file"  # a longer one says in its docstring why it is one: "One file because ..."


@cache
def modules() -> dict[str, Path]:
    """Name -> file of every module of the packages; a package's name is that of its ``__init__``."""
    files = (path for package in ORDER for path in sorted((ROOT / package).rglob("*.py")))
    parts = ((path.relative_to(ROOT).with_suffix("").parts, path) for path in files)
    return {".".join(names[:-1] if names[-1] == "__init__" else names): path for names, path in parts}


@cache
def imports() -> dict[str, frozenset[str]]:
    """Module -> the modules of the house that its source imports, wherever in it."""
    return {name: frozenset(imported(name, path) & modules().keys()) for name, path in modules().items()}


def imported(name: str, path: Path) -> set[str]:
    """All that a source imports and all names that it takes from somewhere, as dotted names."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            source = ".".join([*above, *([node.module] if node.module else [])])
            taken = {f"{source}.{alias.name}" for alias in node.names}
            found |= taken & modules().keys() or {source}
    return found


def room(module: str) -> str:
    """The folder of a module, or the module itself where it lies at the top of its package: ``codec/lossy``.

    The commands of ``bench`` are one room, ``bench``.
    """
    package, *rest = module.split(".")
    if not rest:
        return package if package == "bench" else f"{package}/__init__"
    folder = modules()[module].parent != ROOT / package
    return package if package == "bench" and not folder else f"{package}/{rest[0]}"


def rooms() -> dict[str, int]:
    """Room -> lines of source."""
    lines: dict[str, int] = {}
    for module, path in modules().items():
        lines[room(module)] = lines.get(room(module), 0) + len(path.read_text().splitlines())
    return lines


def arrows() -> set[tuple[str, str]]:
    """(room, room) for every import from one to another."""
    pairs = {(room(a), room(b)) for a, those in imports().items() for b in those}
    return {(a, b) for a, b in pairs if a != b}


def floors(package: str) -> dict[str, int]:
    """Room -> its floor in ``ORDER``, 0 at the top."""
    return {room: floor for floor, those in enumerate(ORDER[package]) for room in those}


def upward(package: str) -> set[tuple[str, str]]:
    """Arrows within a package that do not go down."""
    at = floors(package)
    return {(a, b) for a, b in arrows() if a in at and b in at and at[a] >= at[b]}


def shown(package: str) -> list[tuple[str, str]]:
    """Arrows that go down within a package, without those that others imply: a -> c beside a -> b -> c."""
    down = {(a, b) for a, b in arrows() if {a, b} <= floors(package).keys()} - upward(package)
    longer = {(a, b) for a, b in down if any(b in below(c, down) for x, c in down if x == a and c != b)}
    return sorted(down - longer)


def below(room: str, down: set[tuple[str, str]]) -> set[str]:
    """All rooms that arrows lead to from one."""
    return {b for a, b in down if a == room}.union(*(below(b, down) for a, b in down if a == room))


def circles() -> set[frozenset[str]]:
    """Sets of modules of which each imports each, be it by way of others."""
    reach = {a: reached(a) for a in imports()}
    return {frozenset(b for b in those if a in reach[b]) for a, those in reach.items() if a in those}


def reached(start: str) -> set[str]:
    """All modules that one imports, and those that these import."""
    found: set[str] = set()
    todo = [start]
    while todo:
        new = imports()[todo.pop()] - found
        found |= new
        todo += new
    return found


def overlong() -> list[str]:
    """What is longer, or takes more arguments, than it shall; a line for each."""
    return [f"{kind} {where}" for kind, found in LIMITS.items() for where in found()]


def long_files() -> Iterator[str]:
    """Files of too many lines whose docstring gives no reason for it."""
    for path in (*modules().values(), *sorted((ROOT / "tests").rglob("*.py"))):
        text = path.read_text()
        if len(text.splitlines()) > LINES and REASON not in (ast.get_docstring(ast.parse(text)) or ""):
            yield path.relative_to(ROOT).as_posix()


def long_functions() -> Iterator[str]:
    """Functions of too many lines from ``def`` on, as ``file name``."""
    for where, node, *_ in functions():
        if node.end_lineno - node.lineno >= FUNCTION:
            yield where


def wide_functions() -> Iterator[str]:
    """Public functions that take too many arguments by position; commands are called with options."""
    for where, node, in_class, public in functions():
        count = len(node.args.posonlyargs) + len(node.args.args)
        count -= in_class and not any(isinstance(d, ast.Name) and d.id == "staticmethod" for d in node.decorator_list)
        command = any(isinstance(d, ast.Call) and "command" in ast.unparse(d.func) for d in node.decorator_list)
        if public and not command and count > POSITIONAL:
            yield where


def functions() -> Iterator[tuple[str, ast.FunctionDef, bool, bool]]:
    """Every function of the packages: ``file name``, its node, whether it is a method, whether it is public."""

    def inside(node: ast.AST, names: tuple[str, ...], in_class: bool, in_function: bool):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef):
                inner = (*names, child.name)
                hidden = in_function or any(n.startswith("_") and n != "__init__" for n in inner)
                yield ".".join(inner), child, in_class, not hidden
                yield from inside(child, inner, False, True)
            elif isinstance(child, ast.ClassDef):
                yield from inside(child, (*names, child.name), True, in_function)
            else:
                yield from inside(child, names, in_class, in_function)

    for path in modules().values():
        for name, *rest in inside(ast.parse(path.read_text()), (), False, False):
            yield (f"{path.relative_to(ROOT).as_posix()} {name}", *rest)


LIMITS = {"file": long_files, "function": long_functions, "arguments": wide_functions}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, help="Picture to draw, SVG or what its name ends in.")
    parser.add_argument("--overlong", action="store_true", help="Say what is beyond the limits.")
    asked = parser.parse_args()
    if asked.overlong:
        print(*overlong(), sep="\n")
    if asked.output:
        from tests.house_picture import draw

        draw(asked.output)


if __name__ == "__main__":
    main()
