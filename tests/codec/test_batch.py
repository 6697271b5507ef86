"""Batches of whatever comes: full ones at once, shared among processes, bad members set apart."""

import pytest

from codec.batch import gathered, outcomes, shared
from codec.errors import CodecError
from ddpm.training.distributed import Workers

ITEMS = ["a1", "b1", "a2", "c1", "a3", "b2"]


def first(word):
    return word[0]


def ten(word):
    return 10


@pytest.mark.parametrize(
    ("most", "expected"),
    [
        (0, [[item] for item in ITEMS]),  # each by itself
        (20, [["a1", "a2"], ["b1", "b2"], ["c1"], ["a3"]]),
        (29, [["a1", "a2"], ["b1", "b2"], ["c1"], ["a3"]]),
        (30, [["a1", "a2", "a3"], ["b1", "b2"], ["c1"]]),
        (99, [["a1", "a2", "a3"], ["b1", "b2"], ["c1"]]),
    ],
)
def test_those_of_a_kind_together(most, expected):
    assert list(gathered(ITEMS, first, ten, most)) == expected


def test_a_batch_comes_as_soon_as_it_is_full():
    read = []

    def reading():
        for item in ITEMS:
            read.append(item)
            yield item

    batches = gathered(reading(), first, ten, 20)
    assert read == []
    assert next(batches) == ["a1", "a2"]
    assert read == ITEMS[:3]


@pytest.mark.parametrize("world", [1, 2, 3])
def test_every_batch_is_somebody_s(world):
    shares = [list(shared(gathered(ITEMS, first, ten, 20), Workers("cpu", rank, world))) for rank in range(world)]
    assert sorted(batch for share in shares for batch in share) == [["a1", "a2"], ["a3"], ["b1", "b2"], ["c1"]]
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def inverted(calls):
    def work(batch):
        calls.append(list(batch))
        return [1 / n for n in batch]

    return work


def test_a_good_batch_is_worked_on_once():
    calls = []
    assert list(outcomes([1, 2, 4], inverted(calls))) == [(1, 1.0), (2, 0.5), (4, 0.25)]
    assert calls == [[1, 2, 4]]


def test_a_bad_one_does_not_lose_the_others():
    calls = []
    (two, half), (zero, error), last = outcomes([2, 0, 4], inverted(calls))
    assert (two, half, zero, last) == (2, 0.5, 0, (4, 0.25))
    assert isinstance(error, ZeroDivisionError)
    assert calls == [[2, 0, 4], [2], [0], [4]]
    [(_, error)] = outcomes([0], inverted(calls))
    assert isinstance(error, ZeroDivisionError)
    assert calls[4:] == [[0]]


def test_only_what_may_go_wrong_is_caught():
    def refuses(batch):
        raise CodecError("no")

    assert [type(e) for _, e in outcomes([1, 2], refuses, CodecError)] == [CodecError] * 2
    with pytest.raises(ZeroDivisionError):
        list(outcomes([1, 0], inverted([]), CodecError))
    with pytest.raises(KeyboardInterrupt):
        list(outcomes([1, 0], lambda batch: (_ for _ in ()).throw(KeyboardInterrupt)))
