import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from codec import CodecError
from codec.diagrams import Axis, Diagram, Series, draw, merged, numbers
from tests.cli.test_cli_bpd import run

RATE = Axis("bits/dim", "log", (0.1, 1.0))
PSNR = Axis("PSNR, dB")
OURS = Series("ddpm-codec", [0.1, 0.5, 1], [30, 35, 40], "files")
CURVES = Diagram("Kodak", RATE, PSNR, [OURS, Series("cost in $ and $", [0.2, 0.9], [25, 33], "published")])


def plotted(capsys, monkeypatch, *args, code=0) -> str:
    """What the command says to stderr."""
    status, _, said = run(capsys, monkeypatch, "plot", *args)
    assert status == code, said
    return said


def test_json_gives_the_diagram_back():
    assert Diagram.from_json(json.loads(json.dumps(CURVES.to_json()))) == CURVES


def test_like_axes_are_drawn_together_and_like_names_told_apart():
    more = Diagram("Kodak", RATE, PSNR, [OURS, Series("ddpm-codec", [0.1], [31])])
    other = Diagram("Kodak", Axis("bits/pixel"), PSNR, [OURS])
    found = merged([("a", [CURVES]), ("b", [more, other])])
    assert [[s.name for s in d.series] for d in found] == [
        ["ddpm-codec", "cost in $ and $", "ddpm-codec (b)"],
        ["ddpm-codec"],
    ]


@pytest.mark.parametrize("kind", ["png", "svg", "webp"])
def test_files_are_drawn_and_drawn_alike(capsys, monkeypatch, tmp_path, kind):
    source, target = tmp_path / "a.json", tmp_path / "new" / f"a.{kind}"
    source.write_text(json.dumps({"rows": [1], "diagrams": [CURVES.to_json()]}))
    plotted(capsys, monkeypatch, source, "-o", target)
    first = target.read_bytes()
    plotted(capsys, monkeypatch, source, "-o", target, "--force")
    assert target.read_bytes() == first
    if kind != "svg":
        assert len(np.unique(np.array(Image.open(target).convert("L")))) > 10
    else:
        assert b"PSNR, dB" in first
        assert b"ddpm-codec" in first


WRONG = [
    "[",
    "[" * 100_000,
    "[]",
    "{}",
    '{"diagrams": 3}',
    '{"diagrams": []}',
    '{"diagrams": [3]}',
    json.dumps({"diagrams": [CURVES.to_json() | {"series": [{"name": "a", "x": [1, 2], "y": [1]}]}]}),
    json.dumps({"diagrams": [CURVES.to_json() | {"series": [{"name": "a", "x": [1e999], "y": [1]}]}]}),
    json.dumps({"diagrams": [CURVES.to_json() | {"series": [{"name": "a", "x": [10**400], "y": [1]}]}]}),
    json.dumps({"diagrams": [CURVES.to_json() | {"series": [{"name": "a", "x": [1], "y": [1], "style": []}]}]}),
    json.dumps({"diagrams": [CURVES.to_json() | {"x": {"label": "a", "scale": "log", "range": [0, 1]}}]}),
    json.dumps({"diagrams": [CURVES.to_json() | {"x": {"label": "a", "scale": {}}}]}),
]


@pytest.mark.parametrize("text", WRONG)
def test_one_line_for_what_is_no_measurement(capsys, monkeypatch, tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    said = plotted(capsys, monkeypatch, tmp_path / "a.json", "-o", tmp_path / "a.png", code=2)
    assert said.count("\n") == 1
    assert not (tmp_path / "a.png").exists()


@pytest.mark.parametrize("args", [["nowhere.json", "-o", "a.png"], ["nowhere.json", "-o", "a.jpg"], ["nowhere.json"]])
def test_one_line_for_what_is_not_there(capsys, monkeypatch, tmp_path, args):
    monkeypatch.chdir(tmp_path)
    assert plotted(capsys, monkeypatch, *args, code=2).count("\n") == 1


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.fixed_dictionaries({}, optional=dict.fromkeys(("title", "x", "y", "series", "label", "name"), inner))
        ),
        max_leaves=20,
    )
)
def test_whatever_is_read_is_a_diagram_or_refused(value):
    try:
        diagram = Diagram.from_json(value)
    except CodecError:
        return
    assert all(numbers(s.x) and len(s.x) == len(s.y) for s in diagram.series)


def test_an_empty_diagram_is_drawn():
    assert draw([Diagram("nothing", RATE, PSNR)])[:4] == b"\x89PNG"
