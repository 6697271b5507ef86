"""docs/method.md says what the code does: its snippets run, its numbers come out, what it links to is there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "method.md").read_text()
NUMBER = re.compile(r"(?<![\w.])-?\d+(?:\.\d+)?(?![\w.]*\w)")


def test_snippets_run_and_print_what_they_say(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    names = {}
    for snippet in re.findall(r"```python\n(.*?)```", TEXT, re.S):
        exec(compile(snippet, "docs/method.md", "exec"), names)
        said = re.findall(r"^print.*  # (.*)$", snippet, re.M)
        printed = capsys.readouterr().out.splitlines()
        assert len(printed) == len(said)
        for line, comment in zip(printed, said):
            numbers = [float(n) for n in NUMBER.findall(line)]
            expected = [float(n) for n in NUMBER.findall(comment.split(";")[0])]
            assert numbers
            assert expected[: len(numbers)] == pytest.approx(numbers, rel=0.1), f"{line} is not {comment}"


@pytest.mark.parametrize(("text", "target"), sorted(set(re.findall(r"\[([^][]*)\]\(([^()]*)\)", TEXT))))
def test_links(text, target):
    if target.startswith("https://"):
        return
    path = ROOT / "docs" / target
    assert path.is_file()
    if text.startswith("`"):
        assert re.search(rf"^ *(def|class) {re.escape(text.strip('`'))}\b", path.read_text(), re.M)


@pytest.mark.parametrize("module", sorted(set(re.findall(r"`python -m ([\w.]+)", TEXT))))
def test_commands_exist(module):
    assert (ROOT / module.replace(".", "/")).with_suffix(".py").is_file()
