"""Which small changes of a module does no test notice? Needs cosmic-ray, which makes them.

    python -m tests.mutants [MODULE ...] [--sample N] [--seed 0] [--line LINE]

MODULE is a path of ``TESTS``, all of them without. Each mutant is tried in a fork of a process that has the libraries
already, and the module is replaced on its way into that fork alone: no file changes. Survivors are printed as they are
found, with their line before and after. Annotations and docstrings are left alone.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import importlib.abc
import importlib.util
import os
import random
import resource
import sys
from collections import defaultdict
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

TESTS = {
    "ddpm/diffusion/bound.py": ["tests/ddpm/test_bound.py", "-knot more_steps and not limit_is and not 300"],
    "ddpm/diffusion/gaussian.py": [
        "tests/ddpm/test_gaussian.py",
        "tests/ddpm/test_bound.py",
        "-kgaussian.py or one_by_one or scipy and 12",
    ],
    "ddpm/diffusion/likelihood.py": ["tests/ddpm/test_likelihood.py", "--noconftest"],
    "ddpm/diffusion/reverse.py": ["tests/ddpm/test_bound.py", "-kscipy and 12 or impossible or sure"],
    "codec/format/container.py": ["tests/codec/test_container.py", "--noconftest"],
    "codec/lossy/plan.py": ["tests/codec/test_plan.py", "tests/codec/test_spending.py", "--noconftest"],
    **{
        f"codec/channel/{name}.py": ["tests/codec/test_trellis.py", "--noconftest"]
        for name in ("trellis", "labels", "message", "metrics", "search", "viterbi")
    },
    "codec/lossless/entropy.py": [
        "tests/codec/test_coder_words.py",
        "tests/codec/test_lossless.py",
        "-kwords or range or length or probab",
    ],
}
LIBRARIES = (
    "pytest",
    "numpy",
    "scipy.stats",
    "scipy.signal",
    "torch",
    "PIL.Image",
    "constriction",
    "hypothesis.extra.numpy",
    "tqdm",
)
LEAST_SECONDS, FACTOR = 20, 5  # of a processor, that a mutant has: FACTOR times what the module itself takes
ROOM = 16 << 30  # bytes of addresses


class Replaced(importlib.abc.MetaPathFinder, importlib.abc.SourceLoader):
    """One module of other source."""

    def __init__(self, name: str, path: Path, source: str):
        self.name, self.path, self.source = name, path, source

    def find_spec(self, name, path=None, target=None):
        return importlib.util.spec_from_file_location(name, self.path, loader=self) if name == self.name else None

    def get_filename(self, name):
        return str(self.path)

    def get_data(self, path):
        return self.source.encode()

    def path_stats(self, path):
        raise OSError  # so nothing is taken from a cache of the module's code, nor put there


def without_words(source: str) -> str:
    """What runs: no annotations, no docstrings."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.arg):
            node.annotation = None
        elif isinstance(node, ast.FunctionDef):
            node.returns = None
        elif isinstance(node, ast.AnnAssign):
            node.annotation = ast.Name("A")
        if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module) and ast.get_docstring(node) is not None:
            node.body[0] = ast.Pass()
    return ast.unparse(tree)


def mutants(source: str, seed: int) -> Iterator[tuple[str, str]]:
    """Names of operators, and what they make of the source, in random order; for each place in it one that is drawn."""
    from cosmic_ray.ast import ast_nodes, get_ast
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.plugins import get_operator, operator_names

    families = defaultdict(list)  # of all operators that may stand for one, say, each has the same places
    for name in sorted(operator_names()):
        if not get_operator(name).arguments():
            families[name.removeprefix("core/").rsplit("_", 1)[0]].append(get_operator(name))
    nodes, draw, seen = list(ast_nodes(get_ast(source))), random.Random(seed), {without_words(source)}
    places = [
        (family, occurrence)
        for family, kinds in families.items()
        for occurrence in range(sum(len(list(kinds[0]().mutation_positions(node))) for node in nodes))
    ]
    for family, occurrence in draw.sample(places, len(places)):
        changed = mutate_code(source, draw.choice(families[family])(), occurrence)
        with contextlib.suppress(SyntaxError):
            if changed and (runs := without_words(changed)) not in seen:
                seen.add(runs)
                yield family, changed


def changed_line(source: str, changed: str) -> tuple[int, str, str]:
    """Number of the first line that differs, and it before and after."""
    before, after = source.splitlines(), changed.splitlines()
    at = next(i for i, (a, b) in enumerate(zip([*before, ""], [*after, ""])) if a != b)
    return at + 1, before[at].strip(), after[at].strip() if len(after) == len(before) else "(gone)"


def survives(path: str, source: str, seconds: float) -> tuple[bool, float]:
    """Whether the tests of a module pass with this source; and the seconds of a processor that they took."""
    child = os.fork()
    if not child:
        status = 1
        try:
            quiet = os.open(os.devnull, os.O_WRONLY)
            os.dup2(quiet, 1)
            os.dup2(quiet, 2)
            resource.setrlimit(resource.RLIMIT_CPU, (int(seconds) + 1,) * 2)
            resource.setrlimit(resource.RLIMIT_AS, (ROOM, ROOM))
            sys.meta_path.insert(0, Replaced(path.removesuffix(".py").replace("/", "."), Path(path).resolve(), source))
            status = tests(TESTS[path])
        finally:
            os._exit(status)
    _, status, used = os.wait4(child, 0)
    return status == 0, used.ru_utime + used.ru_stime


def tests(chosen: list[str]) -> int:
    """Hypothesis has the same examples each time, and makes a failing one no smaller."""
    import pytest
    from hypothesis import Phase, settings

    settings.register_profile(
        "mutants",
        derandomize=True,
        max_examples=30,
        database=None,
        deadline=None,
        phases=[Phase.explicit, Phase.generate],
    )
    settings.load_profile("mutants")
    return int(pytest.main([*chosen, "-x", "-q", "-p", "no:cacheprovider", "--no-header"]))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("modules", nargs="*", metavar="MODULE")
    parser.add_argument("--sample", type=int, help="so many mutants of each module, drawn at random")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--line", type=int, action="append", help="only mutants of this line")
    asked = parser.parse_args()
    for name in LIBRARIES:
        importlib.import_module(name)
    for path in asked.modules or TESTS:
        source = Path(path).read_text()
        alive, spent = survives(path, source, 600)
        if not alive:
            sys.exit(f"{path}: its tests fail as it is")
        drawn = mutants(source, asked.seed)
        if asked.line:
            drawn = (m for m in drawn if changed_line(source, m[1])[0] in asked.line)
        print(f"{path}: its tests take {spent:.1f} s", flush=True)
        tried = survivors = 0
        for operator, changed in islice(drawn, asked.sample):
            tried += 1
            if survives(path, changed, max(LEAST_SECONDS, FACTOR * spent))[0]:
                survivors += 1
                line, before, after = changed_line(source, changed)
                print(f"{path}:{line}: {operator}\n  - {before}\n  + {after}", flush=True)
        print(f"{path}: {tried - survivors} killed, {survivors} survived", flush=True)


if __name__ == "__main__":
    main()
