import zlib

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.special import ndtri

from codec.randomness import interleave, philox
from codec.randomness.interleave import scramble
from codec.randomness.philox import GRID, NOISE, edges, gaussians, words
from codec.randomness.streams import labels, shared_noise

LABELS = [
    1352101409, 43583945, 524341179, 16441008, 3918081204, 2344278407, 3366898895, 3297720874, 897007755,
    3265275058, 3847462174, 3316974818, 223820911, 2276443896, 625711138, 2566616777, 3112931897,
]  # fmt: skip


def test_philox_known_answer():
    """Random123's published vector for philox4x64-10 with counter and key 0 (numpy counts up before it draws)."""
    generator = np.random.Philox(key=np.zeros(2, np.uint64), counter=np.full(4, 2**64 - 1, np.uint64))
    assert [int(v) for v in generator.random_raw(4)] == [
        0x16554D9ECA36314C,
        0xDB20FE9D672D0FDC,
        0xD7E772CEE186176B,
        0x7E68B68AEC7BA23B,
    ]


def test_gaussians_are_gaussian_and_on_the_grid():
    g = gaussians(words(1, 2, 3, 100_000))
    assert stats.kstest(g, "norm").pvalue > 1e-3
    assert np.array_equal(g / GRID, np.rint(g / GRID))


@given(st.integers(0, 2**32), st.integers(12, 50))
def test_words_become_the_nearest_quantiles(seed, shift):
    """Also in both tails, as far as 52 bits reach, 8.2 standard deviations."""
    raw = np.random.default_rng(seed).integers(0, 2**64, 1000, dtype=np.uint64) >> np.uint64(shift - 12)
    expected = np.rint(ndtri(((raw >> np.uint64(12)) + 0.5) * 2.0**-52) / GRID) * GRID
    assert np.array_equal(gaussians(raw), expected)
    assert np.array_equal(gaussians(~raw), -expected)


def test_edges_are_half_way_between_points():
    """Every word next to an edge, where a quantile is surest to be rounded the wrong way."""
    inner = edges()[(edges() > 0) & (edges() < 1 << 52)]
    below, above = (gaussians((inner + i).astype(np.uint64) << np.uint64(12)) / GRID for i in (-1, 0))
    assert np.array_equal(inner, (1 << 52) - inner[::-1])
    assert (below < above).all()
    alone = np.diff(inner) > 1
    assert (above[:-1] + 1 == above[1:])[alone].all()
    assert gaussians(np.array([0, 2**64 - 1], np.uint64)).tolist() == [-8.2099609375, 8.2099609375]


def test_rows_of_labels_do_not_depend_on_how_many_are_made():
    assert torch.equal(labels(5, 3), labels(5, 40)[:3])
    assert labels(5, 3).data_ptr() == labels(5, 40).data_ptr()  # made once


def test_labels_are_those_of_all_files():
    """CRC-32 of the first 8 rows (little-endian float32) for registers of 0, 1, ... bits."""
    assert [zlib.crc32((labels(m, 8).numpy() + 0).astype("<f4").tobytes()) for m in range(17)] == LABELS


def test_scramble_is_a_permutation_with_fair_signs():
    order, signs = scramble(7, 1, 10_001)
    assert torch.equal(order.sort().values, torch.arange(10_001, dtype=torch.int32))
    assert set(signs.unique().tolist()) == {-1, 1}
    assert abs(float(signs.float().mean())) < 0.05
    again, _ = scramble(7, 1, 10_001)
    assert torch.equal(order, again)
    assert not torch.equal(order, scramble(7, 2, 10_001)[0])


def test_a_stream_does_not_depend_on_the_chunks_it_is_made_in(monkeypatch):
    whole = shared_noise(3, 4, 1000)
    assert np.array_equal(whole, gaussians(words(NOISE, 3, 4, 1000)))
    monkeypatch.setattr(philox, "CHUNK", 7)
    assert torch.equal(shared_noise(3, 4, 1000), whole)


def test_equal_keys_are_put_in_the_order_of_their_places(monkeypatch):
    monkeypatch.setattr(interleave, "CHUNK", 16)
    for keys in (np.arange(100)[::-1], np.arange(100) // 3, np.repeat([5, 2], [16, 17])):
        monkeypatch.setattr(interleave, "words", lambda purpose, seed, stream, n, k=keys: k.astype(np.uint64)[:n])
        assert scramble(0, 0, len(keys))[0].tolist() == np.argsort(keys, kind="stable").tolist()


@given(st.integers(0, 300), st.integers(1, 64), st.integers(0, 63), st.integers(0, 9), st.integers(1, 400))
def test_argsort_is_numpys(n, high, at, seed, chunk):
    """Keys that differ in few bits, high or low ones: many have the same upper bits, and some are equal."""
    rng = np.random.default_rng(seed)
    keys = rng.integers(0, high, n).astype(np.uint64) << np.uint64(58) | rng.integers(0, 4, n).astype(np.uint64)
    keys ^= rng.integers(0, 2, n).astype(np.uint64) << np.uint64(at)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(interleave, "CHUNK", chunk)
        patch.setattr(interleave, "SHARED", chunk)
        patch.setattr(interleave, "cpu_count", lambda: 3)
        order = interleave.argsort(keys.copy)
    assert order.dtype == np.int32
    assert np.array_equal(order, np.argsort(keys, kind="stable"))


def test_streams_are_distinct():
    assert not torch.equal(shared_noise(0, 1, 64), shared_noise(0, 2, 64))
    assert not torch.equal(shared_noise(0, 1, 64), shared_noise(1, 1, 64))
