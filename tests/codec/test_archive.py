"""Archives: many pictures in one file, and what is refused."""

import contextlib
import json
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from codec.archive import create, extract
from codec.archive.header import MAX_TABLE, closed, known_model, pack, unpack
from codec.archive.patches import CODE
from codec.errors import CodecError, DamagedFile, NotOurFile, UnknownModel
from codec.format import stored
from ddpm.models.load import load_model
from tests.conftest import smooth_picture

T = 6


@pytest.fixture(scope="module")
def model(tiniest_model):
    return load_model(tiniest_model)


def some_pictures():
    rng = np.random.default_rng(5)
    many = [(f"small/{i}.png", smooth_picture(16, 16, i)) for i in range(10)]
    many += [(f"wide/{i}.png", smooth_picture(16, 24, i)) for i in range(4)]
    many += [("grey.png", smooth_picture(16, 16, 77, 1)), ("large.png", smooth_picture(65, 66, 3))]
    clear = np.dstack([smooth_picture(16, 16, 88), smooth_picture(16, 16, 89, 1)])
    many += [("clear.png", clear), ("grey and clear.png", clear[..., 2:])]
    return [*many, ("noise.png", rng.integers(0, 256, (5, 7, 3), dtype=np.uint8))]


SHAPES = st.tuples(st.integers(1, 20), st.integers(1, 20)).flatmap(
    lambda size: st.sampled_from([size, (*size, 2), (*size, 3), (*size, 4)])
)


@settings(max_examples=4, deadline=None)
@given(st.lists(hnp.arrays(np.uint8, SHAPES), min_size=1, max_size=4), st.sampled_from([3, CODE]))
def test_any_pictures_come_back(model, arrays, steps):
    """With noise before them, so that there is something to borrow from."""
    rng = np.random.default_rng(0)
    arrays = [*rng.integers(0, 256, (5, 8, 8, 3), dtype=np.uint8), *arrays]
    data = create([(str(i), a) for i, a in enumerate(arrays)], model, steps, store=False)
    back = dict(extract(data, model))
    assert all(np.array_equal(back[str(i)], a) for i, a in enumerate(arrays))


@pytest.fixture(scope="module", params=[T, CODE])
def steps(request):
    return request.param


@pytest.fixture(scope="module")
def made(model, steps):
    return create(some_pictures(), model, steps, store=False)


def test_round_trip(made, model, steps):
    back = dict(extract(made, model))
    assert set(back) == {name for name, _ in some_pictures()}
    for name, array in some_pictures():
        assert back[name].dtype == np.uint8
        assert np.array_equal(back[name], array), name
    c = unpack(made)
    assert (c.model, c.steps, c.file_bytes) == ("tiny-1", steps, c.whole_bytes)
    assert any(n > 1 for n in c.plan)
    assert 0 < c.stored < 10
    assert [c.names[i] for i in np.flatnonzero(c.grey)] == ["grey.png", "grey and clear.png"]
    assert [c.names[i] for i in c.alpha] == ["clear.png", "grey and clear.png"]


def test_what_is_unpacked_packs_the_same(made):
    header = unpack(made)
    assert pack(header, np.frombuffer(made, "<u4", header.count, header.start)) == made


def test_no_level_is_skipped_for_small_pictures(model, monkeypatch):
    monkeypatch.setattr(model, "card", {**model.card, "coding": {**model.coding, "min_bits": 1000}})
    rng = np.random.default_rng(0)
    pictures = [(str(i), rng.integers(0, 256, (1, 3 + i % 6, 3), dtype=np.uint8)) for i in range(18)]
    pictures += [(f"dot{i}", rng.integers(0, 256, (1, 1, 3), dtype=np.uint8)) for i in range(9)]
    back = dict(extract(create(pictures, model, store=False), model))
    assert all(np.array_equal(back[name], array) for name, array in pictures)


def test_the_same_pictures_give_the_same_archive(made, model, steps):
    assert create(some_pictures(), model, steps, store=False) == made


@pytest.mark.parametrize("count", [1, 2])
def test_few_pictures_are_files_of_their_own(model, count):
    few = [(f"{i}.png", smooth_picture(16, 16, i)) for i in range(count)]
    data = create(few, model, T, store=False)
    assert unpack(data).stored == count
    assert {n: a.tobytes() for n, a in extract(data, model)} == {n: a.tobytes() for n, a in few}


def test_damage_is_refused_before_the_first_picture(made, model):
    c = unpack(made)
    rng = np.random.default_rng(0)
    for at in [0, 7, 8, 11, 12, c.start - 2, c.start, len(made) - 5, len(made) - 1, *rng.integers(0, len(made), 20)]:
        bad = bytearray(made)
        bad[at] ^= 1 << int(rng.integers(8))
        with pytest.raises(CodecError):
            extract(bytes(bad), model)
    for end in [0, 5, 9, 40, c.start - 1, c.start, c.start + 1, len(made) - 4, len(made) - 1]:
        with pytest.raises((DamagedFile, NotOurFile)):
            extract(made[:end], model)
    with pytest.raises(DamagedFile, match="longer"):
        extract(made + b"\0", model)
    cut = unpack(made[:-100])
    assert (cut.names, cut.complete) == (c.names, False)


def test_wrong_words_under_right_checksums_are_refused(made, model):
    c = unpack(made)
    rng = np.random.default_rng(1)
    for _ in range(3):
        words = np.frombuffer(made, "<u4", c.count, c.start).copy()
        words[rng.integers(c.count // 2, c.count)] ^= 1 << int(rng.integers(31))
        with pytest.raises(CodecError):
            list(extract(closed(made[: c.start] + words.tobytes()), model))


@settings(max_examples=4, deadline=None)
@given(st.data())
def test_whatever_comes_out_is_right(made, model, data):
    """Bytes changed behind checksums that are right again: errors, or pictures that are not touched."""
    c, bad = unpack(made), bytearray(made)
    for at in data.draw(st.lists(st.integers(c.start, len(made) - 5), min_size=1, max_size=4)):
        bad[at] = data.draw(st.integers(0, 255))
    original = dict(some_pictures())
    with contextlib.suppress(CodecError):
        for name, array in extract(closed(bytes(bad[:-4])), model):
            assert np.array_equal(array, original[name])


def rewritten(data, **changes):
    """The archive with another table."""
    c = unpack(data)
    table = json.loads(zlib.decompress(data[12 : c.start - 4]))
    packed = zlib.compress(json.dumps(table | changes).encode())
    head = closed(data[:8] + len(packed).to_bytes(4, "little") + packed)
    return closed(head + data[c.start : -4])


@pytest.mark.parametrize(
    "name", ["../a.png", "/a.png", "a/../../b.png", "..", "", "a//b", "C:/a.png", "a\\b.png", "a\0b", "a\nb", 3, None]
)
def test_names_that_lead_elsewhere_are_refused(made, model, name):
    c = unpack(made)
    with pytest.raises(CodecError, match="name"):
        unpack(rewritten(made, names=[name, *c.names[1:]]))
    if isinstance(name, str):
        with pytest.raises(CodecError, match="name"):
            create([(name, smooth_picture(4, 4))], model, T, store=False)


@pytest.mark.parametrize(
    "changes",
    [
        {"sizes": [[65535, 65535]] * 19},
        {"sizes": [[0, 5]] * 19},
        {"sizes": [[16, 16]] * 19},
        {"sizes": 7},
        {"plan": [1] * 5},
        {"plan": [1 << 40]},
        {"plan": [-(1 << 40)] * 19},
        {"plan": []},
        {"words": 1 << 50},
        {"words": "many"},
        {"names": []},
        {"crcs": "?"},
        {"grey": None},
        {"alpha": None},
        {"alpha": {"x": ""}},
        {"alpha": {"0": "AAAA"}},
        {"alpha": {"0": "?"}},
        {"steps": 1},
        {"steps": 1e9},
        {"fingerprint": "no"},
        {"model": 5},
    ],
)
def test_tables_that_contradict_themselves_are_refused(made, model, changes):
    with pytest.raises(CodecError):
        list(extract(rewritten(made, **changes), model))


def test_a_table_that_swells_is_refused(made):
    packed = zlib.compress(b"[" + b" " * (MAX_TABLE + 10) + b"]", 1)
    head = closed(made[:8] + len(packed).to_bytes(4, "little") + packed)
    with pytest.raises(DamagedFile):
        unpack(head)


def test_another_model_is_refused(made, model):
    with pytest.raises(UnknownModel, match="made with model"):
        extract(rewritten(made, fingerprint="00" * 32), model)
    with pytest.raises(UnknownModel, match="not known"):
        known_model(unpack(rewritten(made, fingerprint="00" * 32)))


def test_pictures_that_cost_more_than_they_take_are_stored(model, steps):
    """Of each the shorter: none takes more than a lossless WebP of it, and those that the model likes are coded."""
    rng = np.random.default_rng(3)
    pictures = {
        "checkers.png": (np.add.outer(np.arange(70), np.arange(90)) % 2 * 255).astype(np.uint8),
        "noise.png": rng.integers(0, 256, (20, 24, 3), dtype=np.uint8),
        "colour.png": np.broadcast_to(np.array([3, 200, 7], np.uint8), (16, 16, 3)).copy(),
        "clear.png": np.dstack([np.full((9, 9, 3), (1, 2, 3), np.uint8), rng.integers(0, 2, (9, 9), dtype=np.uint8)]),
    }
    data = create(pictures.items(), model, steps)
    c = unpack(data)
    assert pack(c, np.frombuffer(data, "<u4", c.count, c.start)) == data
    assert set(c.kept) == set(range(len(pictures)))
    assert len(data) < sum(len(stored.pack(array)) for array in pictures.values()) + 500
    out = dict(extract(data, model))
    assert all(np.array_equal(out[name], array) for name, array in pictures.items())
    for flip in range(0, len(data), 7):
        bad = bytearray(data)
        bad[flip] ^= 4
        with pytest.raises(CodecError):
            list(extract(bytes(bad), model))


def test_pictures_with_channels_that_say_nothing_come_out_as_they_went_in(model, steps):
    checkers = (np.add.outer(np.arange(70), np.arange(10)) % 2 * 255).astype(np.uint8)
    full = np.full_like(checkers, 255)
    arrays = [np.dstack(channels) for channels in ([checkers] * 3, [checkers] * 4, [checkers, full])]
    arrays += [np.dstack([checkers, full - checkers, checkers, full]), checkers]
    data = create([(f"{i}.png", array) for i, array in enumerate(arrays)], model, steps)
    assert {0, 1, 4} <= set(unpack(data).kept)
    out = dict(extract(data, model))
    assert all(np.array_equal(out[f"{i}.png"], array) for i, array in enumerate(arrays))


@pytest.mark.parametrize(
    "kept", [[[0, -1, "00"]], [[99, 1, "00"]], [[0, 1 << 40, "00"]], [[0, 1, "0"]], [[0, 1, "000000000000"]], 7, [[0]]]
)
def test_stored_pictures_that_cannot_be_are_refused(made, model, kept):
    with pytest.raises(CodecError):
        list(extract(rewritten(made, kept=kept), model))
