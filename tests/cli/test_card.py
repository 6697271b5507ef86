"""What a card says of pictures, and how it is checked."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from codec import Codec
from codec.errors import CodecError, UnknownModel
from codec.format.container import Header
from codec.images.pictures import png_bytes
from codec.lossy.plan import MEAN
from ddpm.images import lists
from ddpm.models import runs
from ddpm.models.load import load_model
from ddpm.models.store import read_card
from ddpm.training.train import train
from tests.conftest import smooth_picture

WEIGHTS = Path(__file__).parents[2] / "ddpm" / "weights"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("card") / "pictures"
    folder.mkdir()
    for i in range(4):
        (folder / f"{i}.png").write_bytes(png_bytes(smooth_picture(24, 24, i)))
    return folder


@pytest.fixture(scope="module")
def folder(pictures):
    """A training run, of all but one picture."""
    changes = {"compile": False, "autocast": False, "batch": 2, "decay_images": 4, "exclude": ["3.png"]}
    train(pictures.parent / "run", [str(pictures)], "tiny", changes=changes, note="ours", quiet=True)
    return pictures.parent / "run"


def test_a_list_is_its_pictures_whatever_their_names_and_order(tmp_path):
    a, b = (smooth_picture(4, 6, s) for s in range(2))
    by_hand = sorted(hashlib.sha256(b"4 6 3\n" + x.tobytes()).digest() for x in (a, b))
    expected = {"source": "s", "pictures": 2, "sha256": hashlib.sha256(b"".join(by_hand)).hexdigest()}
    assert lists.entry("s", map(lists.digest, (a, b))) == lists.entry("s", map(lists.digest, (b, a))) == expected
    other = a.copy()
    other[0, 0, 0] ^= 1
    shapes = [a, other, a.reshape(6, 4, 3), a[::-1], a.transpose(1, 0, 2)]
    assert len({lists.digest(x) for x in shapes}) == len(shapes)


def test_what_was_left_out_has_a_list_of_its_own(pictures):
    found, said = lists.read([str(pictures)], None, ["1.png", "3.png"])
    assert len(found) == 2
    for role, seeds in (("used", (0, 2)), ("excluded", (1, 3))):
        expected = lists.entry(str(pictures), (lists.digest(smooth_picture(24, 24, s)) for s in seeds))
        assert said[role] == [expected]


def test_training_and_calibration_name_their_pictures(pictures, folder, tmp_path, command):
    small = ["--images", 2, "--crop", 16, "--steps", 6, "--memory", 4]
    model = tmp_path / "own-1"
    code, out, err = command(
        "calibrate", folder, pictures, "-o", model, *small, "--test", pictures / "3.png", "--note", "free", "--quiet"
    )
    assert (code, out, err) == (0, "", "")
    card = read_card(model)
    of = lambda *seeds: lists.entry("", (lists.digest(smooth_picture(24, 24, s)) for s in seeds))["sha256"]  # noqa: E731
    found = {role: [(e["pictures"], e["sha256"]) for e in entries] for role, entries in card["data"].items()}
    assert found == {
        "training": [(3, of(0, 1, 2))],
        "excluded": [(1, of(3))],
        "calibration": [(4, of(0, 1, 2, 3))],
        "test": [(1, of(3))],
    }
    assert (card["training"]["notes"], card["notes"]) == ({"note": "ours"}, "free")
    assert (card["training"]["preset"], card["training"]["steps"]) == ("tiny", 2)

    code, out, _ = command("card", model)
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == [
        "training",
        "excluded",
        "calibration",
        "test",
        "ours",
        "free",
    ]
    code, out, _ = command("card", model, pictures, "--exclude", "3.png")
    assert (code, "these are: training (" in out) == (0, True)
    code, out, _ = command("card", model, pictures, "--part", ":3")
    assert (code, "these are: training (" in out) == (0, True)
    code, out, _ = command("card", model, pictures / "3.png", "--json")
    assert (code, json.loads(out)["lists"]) == (0, ["excluded", "test"])
    code, out, _ = command("card", model, pictures / "1.png")
    assert (code, "none of the lists" in out) == (1, True)
    code, _, err = command("card", model, "nowhere")
    assert (code, err) == (2, "error: nowhere: No such file or directory\n")


@pytest.mark.parametrize("name", ["photo-10", "cifar10-5"])
def test_shipped_cards_name_their_pictures_and_no_place(name):
    card = json.loads((WEIGHTS / f"{name}.json").read_text())
    assert {"source", "excluded", "calibration", "licence"} <= set(card["data"])
    assert not any(Path(source).is_absolute() for source in card["training"]["data"])
    for entries in (v for v in card["data"].values() if isinstance(v, list)):
        for entry in entries:
            assert len(bytes.fromhex(entry["sha256"])) == 32
            assert not Path(entry["source"]).is_absolute()
    if "training" in card["data"]:
        counts = {role: sum(e["pictures"] for e in card["data"][role]) for role in ("training", "source", "excluded")}
        assert counts["training"] + counts["excluded"] == counts["source"]


def test_a_training_run_is_a_model_without_tables(pictures, folder, command):
    code, out, err = command("bpd", pictures, "--model", folder, "--samples", 1, "--json", "--quiet")
    assert (code, err) == (0, "")
    assert (json.loads(out)["model"], json.loads(out)["images"]) == ("run", 4)
    advice = f"{folder} is a training run, without coding tables yet; "
    calibration = f"measure them: ddpm-codec calibrate {folder} PICTURES -o NAME"
    for words in (["encode", pictures / "0.png", "--rate", 1], ["bpd", pictures, "--steps", "codec"]):
        code, out, err = command(*words, "--model", folder)
        assert (code, out, err) == (2, "", f"error: {advice}{calibration}\n")
    code, _, err = command("archive", "create", pictures / "a.ddpma", pictures, "--model", folder)
    assert (code, err) == (2, f"error: {advice}say --steps T, or {calibration}\n")


def test_the_run_and_the_model_made_of_it_have_the_same_weights(pictures, folder):
    run = load_model(str(folder))
    average = runs.average(folder)
    for name, value in run.state_dict().items():
        assert np.array_equal(value, average[name].half().float())


def test_a_run_without_a_step_says_so(folder, tmp_path):
    (tmp_path / runs.SETTINGS).write_text((folder / runs.SETTINGS).read_text())
    with pytest.raises(UnknownModel, match="has not saved a step yet"):
        load_model(str(tmp_path))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-o", "."], "name the model"),
        (["-o", "{pictures}/0.png/m-1"], "Not a directory"),
        ([], "say with -o where"),
        (["-o", "m-1", "--images", "0"], "--images"),
        (["-o", "m-1", "--crop", "0"], "--crop"),
        (["-o", "m-1", "--steps", "63"], "--steps"),
        (["-o", "m-1", "--surplus", "0"], "--surplus"),
        (["-o", "m-1", "--memory", "99"], "--memory"),
        (["-o", "m-1", "--min-bits", "0"], "--min-bits"),
        (["-o", "m-1", "--block", "0"], "--block"),
        (["-o", "m-1", "--scale", "0"], "--scale"),
        (["-o", "m-1", "--tile", "100"], "no images"),
        (["-o", "m-1", "--context-only"], "no coding tables"),
        (["-o", "m-1", "--test", "nowhere", "--steps", "2", "--images", "1", "--crop", "8"], "nowhere"),
    ],
)
def test_mistakes_with_calibrate_are_one_line(pictures, folder, tmp_path, monkeypatch, command, words, said):
    monkeypatch.chdir(tmp_path)
    code, out, err = command("calibrate", folder, pictures, *(w.format(pictures=pictures) for w in words), "--quiet")
    assert (code, out) == (2, "")
    assert said in err
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_file_of_a_native_size_names_the_model_that_it_needs(models):
    other = bytes(255 - b for b in Codec("tiny-1").model.fingerprint[:2])
    data = Header(other, 32, 32, MEAN, 3, False, 0).pack(32) + bytes(20)
    with pytest.raises(
        CodecError, match=f"fingerprint begins with {other.hex()}, and none here does; give it with --model"
    ):
        Codec("tiny-1").open(data)
