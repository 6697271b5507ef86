"""docs/method.md says what the code does: its snippets run, its numbers come out."""

import re
from pathlib import Path

import pytest

from codec.format.container import checksum, crc8

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "method.md").read_text()
NUMBER = re.compile(r"(?<![\w.])-?\d+(?:\.\d+)?(?![\w.]*\w)")


def test_what_the_readme_imports_is_there():
    readme = (ROOT / "README.md").read_text()
    lines = re.findall(r"^(?:from|import) .*$", "\n".join(re.findall(r"```python\n(.*?)```", readme, re.S)), re.M)
    assert len(lines) == 5
    for line in lines:
        exec(line, {})


def test_the_format_s_checksums_are_the_code_s():
    text = (ROOT / "docs" / "format.md").read_text()
    rows = re.findall(r"^\| (CRC-\d+) \|.*`0x(\w+)` \|$", text, re.M)
    assert dict(rows) == {
        "CRC-8": f"{crc8(b'123456789'):X}",
        "CRC-16": checksum(b"123", b"456789", b"").hex().upper(),
    }


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
