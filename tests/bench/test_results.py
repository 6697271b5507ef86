import json
import re
import shlex
from importlib import import_module

import pytest
from click.testing import CliRunner

from bench import quick, readme
from bench.reporting import lengths
from bench.reporting.output import save
from bench.reporting.run import Run, joined, presented
from bench.reporting.table import Table, tables_of
from codec.diagrams import Diagram


def archive(steps, looks, images, length, **more):
    return {
        "code": lengths.ARCHIVE,
        "steps": steps,
        "looks": looks,
        "images": images,
        "bits_per_dim": length,
        "net": length - 0.02,
        "coder": 0.001,
        "coder_ns": [100.0, 80.0],
        "encode_s": 0.5,
        "decode_s": None,
        **more,
    }


SINGLE = {"code": lengths.SINGLE, "steps": "codec", "looks": 30, "images": 10, "bits_per_dim": 3.9, "bound": 3.7}
PNG = {"code": "PNG", "images": 10, "bits_per_dim": 5.8}


def result(rows, model=None, **settings):
    return Run("lengths", model, **settings).result(rows)


def test_rows_of_several_runs_are_one_table():
    parts = [result([archive(25, 25, 10, 3.88, bound=3.86), PNG]), result([archive(10, 10, 10, 4.2), PNG, SINGLE])]
    found = joined(json.loads(json.dumps(parts)))
    table = {t.name: t for t in tables_of(found)}["code lengths"]
    assert [row[0] for row in table.rows] == [
        "ddpm-codec, one file each, the codec's 30 steps",
        "ddpm-codec, archive, T = 10",
        "ddpm-codec, archive, T = 25",
        "PNG",
    ]
    assert table.rows[2][1:] == ["10", "3.880", "3.860", "0.5%", "0.50"]
    assert table.rows[1][3:5] == ["", ""]
    [diagram] = [Diagram.from_json(d) for d in found["diagrams"]]
    series = {s.name: s for s in diagram.series}
    assert series["ddpm-codec, archive"].x == [10, 25]
    assert series["its bound"].y == [3.86]
    assert series["PNG"].y == [5.8, 5.8]


def test_rows_of_pictures_that_follow_on_each_other_are_one():
    first, rest = SINGLE | {"skip": 0}, SINGLE | {"skip": 10, "images": 30, "bits_per_dim": 3.5, "looks": 31}
    apart = SINGLE | {"skip": 70}
    rows = lengths.distinct([apart, rest, PNG, first, PNG | {"skip": 0}, PNG | {"skip": 10, "bits_per_dim": 5.6}])
    assert [(r["code"], r["images"], round(r["bits_per_dim"], 6)) for r in rows] == [
        (lengths.SINGLE, 10, 3.9),
        (lengths.SINGLE, 40, 3.6),
        ("PNG", 20, 5.7),
    ]
    assert rows[1]["looks"] == 31
    assert rows[1]["bound"] == pytest.approx(3.7)


def test_results_of_other_models_are_not_merged():
    one, other = result([PNG]), result([PNG]) | {"fingerprint": "ff"}
    with pytest.raises(ValueError, match="cannot be merged"):
        joined([one, other])


def test_growth_is_a_table_and_a_diagram_of_its_own():
    rows = [{"code": lengths.GROWTH, "images": n, "archive": 100 * n, "single": 90 * n} for n in (2, 1)]
    found = result(rows)
    [table] = tables_of(found)
    assert table.rows == [["1", "100", "90"], ["2", "200", "180"]]
    assert len(found["diagrams"]) == 1


def test_published_lengths_have_sources_and_their_printed_digits():
    for name in ("cifar10", "kodak"):
        tables = {t.name: t for t in tables_of(result([PNG], published=name))}
        assert all("(" in row[0] and float(row[2]) > 2 for row in tables["published"].rows)
    printed = {row[0]: row[2] for row in tables_of(result([PNG], published="cifar10"))[1].rows}
    assert printed["DDPM, L (Ho et al. 2020, table 1)"] == "3.70"


def test_results_say_where_they_come_from(model, tmp_path):
    found = result([PNG, SINGLE], model, data=f"{tmp_path}/x.webp", size=[1, 2])
    assert found["settings"] == {"data": "x.webp", "size": [1, 2]}
    save(found, tmp_path / "new" / "a.json", tmp_path / "a.png")
    back = json.loads((tmp_path / "new" / "a.json").read_text())
    assert back == json.loads(json.dumps(found)) == json.loads(json.dumps(presented(back)))
    assert back["fingerprint"] == model.fingerprint.hex()
    assert {"device", "threads", "seconds", "versions", "settings"} <= set(back)
    assert back["versions"]["torch"]
    with pytest.raises(ValueError, match="no measurement"):
        presented(back | {"bench": "../evil"})


def test_tables_are_markdown_and_words():
    table = Table("t", ["codec", "bits"], [["JPEG", "1.25"], ["WebP lossless", "0.5"]])
    assert table.markdown() == "| codec | bits |\n| --- | --- |\n| JPEG | 1.25 |\n| WebP lossless | 0.5 |"
    assert table.words().splitlines()[2] == "WebP lossless   0.5"


def test_a_page_is_what_the_results_say(tmp_path, monkeypatch):
    monkeypatch.setattr(readme, "RESULTS", tmp_path)
    (tmp_path / "a.json").write_text(json.dumps(result([PNG])))
    text = "before\n<!-- a.json: code lengths -->\nold\n<!-- end -->\nafter"
    new = readme.renewed(text)
    assert "| PNG | 10 | 5.800 |" in new
    assert new.startswith("before\n<!--")
    assert new.endswith("<!-- end -->\nafter")
    assert readme.renewed(new) == new
    for wrong in ("b.json: code lengths", "a.json: other"):
        with pytest.raises(ValueError, match=r"does not exist|no table"):
            readme.renewed(text.replace("a.json: code lengths", wrong))


@pytest.mark.parametrize("page", readme.PAGES, ids=lambda page: page.name)
def test_no_page_is_stale(page):
    text = page.read_text()
    assert readme.renewed(text) == text, "run python -m bench.readme"
    assert readme.PLACE.search(text), "no table"


def test_the_readme_says_of_vdm_what_the_result_says():
    """Payload and whole files over VDM's ideal rate, least and most of 27 to 42 dB."""
    rows = readme.table("rate_distortion.json", "statements").rows
    over = [row[1:] for row in rows if "bits over VDM" in row[0] and any(f"at {q} dB" in row[0] for q in range(27, 43))]
    whole, payload = ([int(cell.rstrip(" %")) for cell in column] for column in zip(*over))
    text = " ".join(readme.PAGES[0].read_text().split())
    said = re.search(r"its payload takes (\d+) to (\d+)% more bits than VDM's .*?, whole files (\d+) to (\d+)%", text)
    assert list(map(int, said.groups())) == [min(payload), max(payload), min(whole), max(whole)]


def test_archives_are_smaller_from_where_the_page_says():
    rows = readme.table("growth.json", "growth").rows
    smaller = [int(n) for n, archive, single in rows if int(archive.replace(",", "")) < int(single.replace(",", ""))]
    words = {4: "four", 8: "eight", 16: "sixteen", 32: "thirty-two"}
    text = " ".join(readme.PAGES[1].read_text().split())
    assert f"An archive is smaller than files of their own from {words[min(smaller)]} of these pictures on" in text


@pytest.mark.parametrize("page", readme.PAGES, ids=lambda page: page.name)
def test_every_table_stands_under_a_command(page):
    """Between a table and the one before a command is named, or the same run; but for what others published."""
    for part in re.split(r"<!-- end -->", page.read_text())[:-1]:
        words, name = re.split(r"<!-- [\w.-]+\.json: ", part)
        if words.strip() and not name.startswith("published"):  # two tables may stand under one paragraph
            assert re.search(r"bench\.\w+|make demo|`\.\.\. -|same runs?\b", words), words[-300:]


def test_stored_results_show_what_they_measured():
    for path in readme.RESULTS.glob("*.json"):
        stored = json.loads(path.read_text())
        assert json.loads(json.dumps(presented(stored))) == stored, path


@pytest.mark.parametrize("command", quick.COMMANDS.values(), ids=quick.COMMANDS)
def test_the_quick_measurements_are_understood(command):
    module, *options = shlex.split(command)
    main = import_module(f"bench.{module}").main
    assert main.make_context(module, [*options, "-o", "a.json", "-p", "a.png"])


def test_pictures_of_unknown_kinds_are_refused_at_once():
    from bench.agreement import main

    done = CliRunner().invoke(main, ["nowhere", "-p", "a.jpg"])
    assert done.exit_code == 2
    assert "png, svg, webp" in done.output
