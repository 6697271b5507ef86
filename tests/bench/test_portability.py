"""Files across machines: what is compared, and that a difference is seen."""

import json

import numpy as np
import pytest

from bench import machines, portability
from bench.harness import elsewhere
from bench.reporting.run import Run, presented
from bench.reporting.table import tables_of
from tests.conftest import smooth_picture

NAMES = ["one thread", "no oneDNN"]


@pytest.fixture
def here(monkeypatch):
    """The first machine is this process: one that starts takes seconds."""
    start = portability.on
    monkeypatch.setattr(
        portability, "on", lambda name, *a: elsewhere.answer(*a) if name == NAMES[0] else start(name, *a)
    )


def test_machines_are_of_the_same_list_and_each_has_its_threads():
    assert {name for name, settings in machines.INSTRUCTIONS.items() if settings} < set(portability.MACHINES)
    assert set(machines.THREADS) < set(portability.MACHINES)
    assert all("OMP_NUM_THREADS" in settings for settings in portability.MACHINES.values())


def test_what_one_machine_writes_all_read_alike(models, here, tmp_path):
    sets = [portability.Set("tiny-1", [smooth_picture(16, 16, s) for s in range(5)], 4)]
    found = portability.measure(sets, NAMES, 2.0, some=2, keep=tmp_path)
    rows = {(r["kind"], r["view"]): r for r in found["rows"]}
    assert set(rows) == {(kind, view) for kind, views in elsewhere.VIEWS.items() for view in views}
    for (kind, view), row in rows.items():
        assert row["pictures"] == (2 if view != "whole" else 5 if kind == "lossy" else 4)
        assert row["alike"] == [[row["pictures"]] * 2] * 2
        assert row["exact"] == ([[4, 4], [4, 4]] if view == "whole" and kind != "lossy" else None)
    assert rows["lossless", "whole"]["same"] == [[4, 4], [4, 4]]
    assert rows["lossless", "whole"]["distinct"] == 4
    assert rows["archive", "whole"]["same"] == [[1, 1], [1, 1]]
    assert found["machines"]["no oneDNN"]["convolutions"] == "Float32"
    views = [json.loads((tmp_path / "parts.json").read_text())[f"read, {NAMES[0]}"]["found"]]
    hashes = {r["view"]: next(iter(r["shown"].values()))[0] for r in views[0] if r["kind"] == "lossy"}
    assert len(set(hashes.values())) == len(hashes)  # each view shows something else
    assert portability.measure(sets, NAMES, 2.0, some=2, keep=tmp_path) == found


@pytest.fixture
def counted():
    """Of two writers and two readers, of whom the second fails to read a file and reads another as something else."""
    shown = [{"a": ["1"], "b": ["2"], "c": ["3"], "d": ["3"]}, {"a": ["1"], "b": [None], "c": ["3"], "d": ["4"]}]
    return portability.compared([["a", "b", "c"], ["a", "b", "d"]], shown, ["1", "2", "3"])


def test_differences_are_counted(counted):
    """A file that its own writer cannot read is alike nowhere."""
    assert counted["alike"] == [[3, 2], [1, 2]]
    assert counted["exact"] == [[3, 2], [3, 1]]
    assert counted["same"] == [[3, 2], [2, 3]]
    assert (counted["pictures"], counted["files"], counted["distinct"]) == (3, 3, 4)


def test_each_file_is_asked_for_once():
    made = [{(0, "lossy"): ["a", "b", "c"]}, {(0, "lossy"): ["a", "d", "c"]}]
    assert portability.asked(made, 2) == [
        {"set": 0, "kind": "lossy", "files": ["a", "b", "c", "d"], "some": ["a", "b", "d"]}
    ]


def test_the_result_is_presented_from_json_alone(counted):
    head = {"model": "tiny-1", "bytes": 1250}
    rows = [head | {"kind": "lossless", "view": view} | counted for view in ("whole", "cut")]
    about = {name: {"convolutions": "Int8", "torch": "AVX2"} for name in NAMES}
    result = json.loads(json.dumps(Run("portability").result(rows, machines=about)))
    assert presented(result) == result
    tables = {table.name: table.rows for table in tables_of(result)}
    assert tables["decoded alike"] == [[NAMES[0], "6 of 6", "4 of 6"], [NAMES[1], "2 of 6", "4 of 6"]]
    assert tables["made alike"] == [[NAMES[0], "3", "2"], [NAMES[1], "2", "3"]]
    assert tables["what was compared"][1] == ["tiny-1", "lossless, cut", "3", "4", "1,250", "8 of 12", "9 of 12"]
    assert result["diagrams"] == []


def test_pictures_are_told_apart_by_shape_and_every_byte():
    picture = smooth_picture(4, 6)
    other = picture.copy()
    other[3, 5, 2] ^= 1
    flat = picture.reshape(6, 4, 3)
    assert len({elsewhere.digest(p) for p in (picture, other, flat)}) == 3
    grey = picture[..., 0]
    assert elsewhere.digest(grey) == elsewhere.digest(np.stack([grey] * 3, -1))
