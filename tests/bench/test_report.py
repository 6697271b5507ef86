"""The page of results: what it says is what the codec says, it needs nothing else, and it works in a browser."""

import base64
import io
import json
import re
import shutil
import subprocess
import tempfile
from html.parser import HTMLParser

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from bench import report
from bench.reporting.output import save
from bench.reporting.page import page
from bench.reporting.progression import BROWSERS, ORIGINAL, present, spread
from bench.reporting.run import Run
from bench.reporting.svg import inline
from codec import CodecError, Target
from codec.diagrams import OURS, Axis, Diagram, Series
from codec.images.pictures import read_picture
from tests.conftest import smooth_picture

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
needs_browser = pytest.mark.skipif(BROWSER is None, reason="no Chromium here")
HOSTILE = """</script><script>alert(1)</script><img src="https://example.com/x" onerror='alert(1)'>&"$pictures"""
RATE = 1.5


@pytest.fixture(scope="module")
def made(models, tmp_path_factory):
    """Two small pictures, coded and on a page, in a folder with the JSON."""
    folder = tmp_path_factory.mktemp("report")
    (folder / "pictures").mkdir()
    for name, channels in (("colour", 3), ("grey", 1)):
        Image.fromarray(smooth_picture(32, 48, 1, channels)).save(folder / "pictures" / f"{name}.png")
    invoke(folder)
    return folder


def invoke(folder, *args):
    options = ["--pictures", folder / "pictures", "--model", "tiny-1", "--rate", RATE, "-s", folder / "stages.json"]
    asked = [str(a) for a in (*options, "-o", folder / "report.html", *args)]
    return CliRunner().invoke(report.main, asked, catch_exceptions=False)


@pytest.fixture(scope="module")
def rows(made):
    return json.loads((made / "stages.json").read_text())["rows"]


def test_stages_are_what_the_codec_says(codec, made, rows):
    for name in ("colour.png", "grey.png"):
        picture = read_picture(made / "pictures" / name)
        [file] = codec.encode([picture], Target(bits_per_dim=RATE))
        ours = [r for r in rows if (r["file"], r["codec"]) == (name, OURS)]
        assert 4 < len(ours) <= 16
        assert ours[0]["bytes"] >= len(file.data) / 40
        for row in ours:
            error = codec.decode([file.data[: row["bytes"]]])[0].array.astype(float) - picture
            assert row["mse"] == pytest.approx(np.mean(error**2))
            assert row["bits_per_dim"] == 8 * row["bytes"] / picture.size
        assert ours[-1]["mse"] == pytest.approx(file.mse, rel=0.01)


def test_others_have_no_fewer_bytes_or_say_so(rows):
    ours = {(r["file"], r["stage"]): r["bytes"] for r in rows if r["codec"] == OURS}
    for row in rows:
        if row["codec"] not in (OURS, ORIGINAL):
            assert row["bytes"] >= ours[row["file"], row["stage"]] or row["end"] == "largest"
    assert any(row.get("end") == "smallest" for row in rows)


def test_what_is_shown_is_the_picture(made, rows):
    """Of other codecs that browsers read, the very files; of all, a picture as far off as the row says, or nearly."""
    for row in rows:
        data = base64.b64decode(row["source"].partition(",")[2])
        picture = read_picture(made / "pictures" / row["file"])
        array = np.asarray(Image.open(io.BytesIO(data)).convert("L" if picture.ndim == 2 else "RGB"))
        error = np.mean((array.astype(float) - picture) ** 2)
        if row["codec"] in BROWSERS:
            assert (len(data), error) == (row["bytes"], row["mse"])
        elif row["codec"] != ORIGINAL:
            assert error**0.5 == pytest.approx(row["mse"] ** 0.5, abs=10)


def test_stages_are_evenly_spread_over_the_logarithm_of_the_rate():
    sizes = np.round(np.geomspace(10, 10_000, 61)).astype(int)
    assert spread(sizes, 16) == list(range(0, 61, 4))
    assert spread([5, 6, 7, 1000], 4) == [0, 1, 2, 3]
    assert spread([5, 6, 7, 1000], 3) == [0, 2, 3]


class Parsed(HTMLParser):
    """All tags with their attributes, and the text between them."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data


def outside(text):
    """Addresses that a browser might ask for without being told to."""
    found = [v for tag, a in Parsed(text).tags for k, v in a.items() if k in ("src", "srcset", "data") or tag == "link"]
    found += re.findall(r"url\(([^)]*)\)|@import (.*)", text)
    found += [a["xlink:href"] for _, a in Parsed(text).tags if "xlink:href" in a]
    return [v for v in map(str, found) if not v.startswith(("data:image/", "#", "('#"))]


def test_the_page_is_self_contained(made):
    text = (made / "report.html").read_text()
    assert outside(text) == []
    links = {a["href"] for tag, a in Parsed(text).tags if "href" in a and not a["href"].startswith("#")}
    assert links == {"https://arxiv.org/abs/2006.11239"}
    ids = [a["id"] for _, a in Parsed(text).tags if "id" in a]
    assert len(ids) == len(set(ids))


def result(words=HOSTILE):
    """The JSON of a measurement with these words wherever there can be any."""
    series = [Series(words, [0.1, 0.2], [30, 31]), Series("b", [0.1], [3], "points")]
    diagram = Diagram(words, Axis(words), Axis(words), series)
    table = {"name": words, "columns": [words, "a"], "rows": [[words, "1"]]}
    head = Run("curves", **{"a": words}).head | {"bench": words, "model": words, "device": words, "seconds": words}
    return head | {"diagrams": [diagram.to_json()] * 2, "tables": [table]}


def test_hostile_words_stay_words(rows):
    progression = {"bench": "progression", "rows": [r | {"file": HOSTILE} for r in rows if r["file"] == "grey.png"]}
    parsed = Parsed(page([result(), progression]))
    assert sum(tag == "script" for tag, _ in parsed.tags) == 2
    assert not any(key.startswith("on") for _, attrs in parsed.tags for key in attrs)
    assert all(a["src"].startswith("data:image/") for _, a in parsed.tags if "src" in a)
    assert parsed.text.count(HOSTILE) >= 6


def wrong_progression(**changes):
    row = {"file": "a", "codec": ORIGINAL, "source": "data:image/webp;base64,AA==", "width": 1, "height": 1}
    row |= {"bytes": 1, "bits_per_dim": 1, "mse": 0}
    return {"bench": "progression", "rows": [row | changes, row | {"codec": OURS, "stage": 0}]}


@pytest.mark.filterwarnings("ignore:Glyph")
@pytest.mark.parametrize(
    "value",
    [
        {"diagrams": 3},
        {"diagrams": [3]},
        {"diagrams": [Diagram("\0", Axis("a"), Axis("b")).to_json()]},
        {"tables": 3},
        {"tables": [{"name": "a"}]},
        {"tables": [{"name": "a", "columns": 3, "rows": []}]},
        {"tables": [{"name": "a", "columns": [], "rows": [3]}]},
        {"bench": "progression"},
        {"bench": "progression", "rows": [{"file": []}]},
        {"bench": "progression", "rows": wrong_progression()["rows"][:1]},
        wrong_progression(codec=OURS),
        wrong_progression(source="https://example.com/a.webp"),
        wrong_progression(source="data:image/svg+xml;base64,AA=="),
        wrong_progression(bytes="many"),
        wrong_progression(width=1e999),
    ],
)
def test_what_is_no_result_is_refused(value):
    with pytest.raises(CodecError):
        page([value])


def test_those_would_be_right_but_for_what_was_changed():
    assert "exact" in page([wrong_progression()])


def test_ids_of_diagrams_are_kept_apart():
    diagram = Diagram("a", Axis("b", "log"), Axis("c"), [Series("d", [1, 2], [3, 4], "files")])
    ids = [set(re.findall(r' id="([^"]+)"', inline([diagram], prefix))) for prefix in ("x-", "y-")]
    assert not ids[0] & ids[1]
    text = inline([diagram], "x-")
    assert set(re.findall(r'(?:href="|url\()#([^")]+)', text)) <= ids[0]


def test_the_page_is_made_anew_without_coding(made, monkeypatch):
    before = (made / "report.html").read_bytes()
    monkeypatch.setattr(report, "progressions", lambda *_: 1 / 0)
    again = invoke(made)
    assert (again.exit_code, again.stderr) == (0, f"wrote {made / 'report.html'}\n")
    assert (made / "report.html").read_bytes() == before
    assert "another model" in invoke(made, "--rate", "1.4").output


def test_one_line_for_what_is_no_measurement(made, tmp_path):
    (tmp_path / "a.json").write_text("[" * 100_000)
    (tmp_path / "b.json").write_text("[]")
    for name in ("a.json", "b.json", "nowhere.json"):
        said = invoke(made, tmp_path / name)
        assert (said.exit_code, said.output.count("\n")) == (2, 1)
    (tmp_path / "colour.png").touch()
    assert "same name" in invoke(made, "--pictures", tmp_path, "-s", tmp_path / "new.json").output


def test_the_whole_file_is_in_the_table(made):
    found = json.loads((made / "stages.json").read_text())
    diagrams, tables = present(found)
    assert [d.title for d in diagrams] == ["colour.png", "grey.png"]
    assert tables[0].rows[0][0] == OURS
    assert float(tables[0].rows[0][2]) == pytest.approx(RATE, rel=0.1)


def browse(file, *options, address=""):
    """What headless Chromium prints for a page, with a profile of its own."""
    flags = ["headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-background-networking"]
    flags += ["disable-component-update", "disable-sync", *options]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [BROWSER, *(f"--{flag}" for flag in flags), f"--user-data-dir={profile}", file.as_uri() + address]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=300).stdout


def panes(dom, picture):
    """(source, alternative text) of each pane of a picture, then the captions, as the browser has them."""
    section = dom.split('<section class="picture')[picture + 1].split("</section>")[0]
    shown = [(a["src"], a["alt"]) for tag, a in Parsed(section).tags if tag == "img"]
    return shown, re.findall(r"<figcaption>.*?<span>(.*?)</span>", section)


def mistake(dom):
    return dict(Parsed(dom).tags[0][1]).get("data-error")


def assert_stage(dom, rows, name, stage):
    """The second picture's panes are those of its rows."""
    part = [r for r in rows if r["file"] == name and r.get("stage") == stage]
    original = next(r for r in rows if r["file"] == name and r["codec"] == ORIGINAL)
    wanted = [part[0], original, *part[1:]]
    shown, captions = panes(dom, 1)
    assert [source for source, _ in shown] == [r["source"] for r in wanted]
    for (_, alt), caption, row in zip(shown, captions, wanted, strict=True):
        assert alt == f"{name}, {row['codec']}: {caption}"
        assert f"{row['bytes']:,} bytes" in caption
    assert f'aria-valuetext="{captions[0]}"' in dom


@needs_browser
def test_an_address_moves_the_slider(made, rows, tmp_path):
    file = tmp_path / "report.html"
    save(result(), tmp_path / "hostile.json")
    assert invoke(made, tmp_path / "hostile.json", "-o", file).exit_code == 0
    first, moved, nowhere = (
        browse(file, "dump-dom", address=a) for a in ("", "#picture=1&stage=2", "#picture=7&stage=x")
    )
    assert mistake(first) is mistake(moved) is mistake(nowhere) is None
    assert panes(first, 0) == panes(moved, 0) == panes(nowhere, 0)
    assert panes(first, 1) == panes(nowhere, 1) != panes(moved, 1)
    assert_stage(moved, rows, "grey.png", 2)


@needs_browser
def test_a_hand_moves_the_slider_and_the_address(made, rows, tmp_path):
    hand = """addEventListener("load", () => {
      const range = document.getElementById("stage-1");
      range.value = 3;
      for (const kind of ["input", "change"]) range.dispatchEvent(new Event(kind));
      document.title = location.hash;
    });"""
    text = (made / "report.html").read_text().replace("script-src ", "script-src 'unsafe-inline' ")
    text = re.sub(r"'sha256-[^']+'", "", text).replace("</body>", f"<script>{hand}</script></body>")
    (tmp_path / "report.html").write_text(text)
    dom = browse(tmp_path / "report.html", "dump-dom")
    assert mistake(dom) is None
    assert_stage(dom, rows, "grey.png", 3)
    assert "<title>#picture=1&amp;stage=3</title>" in dom


@needs_browser
@pytest.mark.parametrize(
    ("changed", "to", "told"),
    [("</main>", '<img src="nowhere.png"></main>', "img-src"), ('id="data">', 'id="data">wrong', "SyntaxError")],
)
def test_mistakes_of_the_page_would_be_seen(made, tmp_path, changed, to, told):
    (tmp_path / "report.html").write_text((made / "report.html").read_text().replace(changed, to))
    assert told in mistake(browse(tmp_path / "report.html", "dump-dom"))


@needs_browser
def test_the_page_can_be_looked_at(made, tmp_path):
    browse(made / "report.html", f"screenshot={tmp_path / 'a.png'}", "window-size=1200,2000")
    array = np.asarray(Image.open(tmp_path / "a.png").convert("RGB"))
    assert array.shape == (2000, 1200, 3)
    assert len(np.unique(array.reshape(-1, 3), axis=0)) > 1000
