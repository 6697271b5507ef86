"""Pictures in memory, on their way to a network."""

import numpy as np
import pytest

from ddpm.images.batches import alike, batches, parts, some
from tests.conftest import smooth_picture

SIZES = [(16, 16), (8, 24), (16, 16), (16, 16)]
PICTURES = [smooth_picture(*size, seed) for seed, size in enumerate(SIZES)]
PICTURES.append(np.repeat(PICTURES[0][..., :1], 3, 2))


def test_pictures_of_one_size_go_together():
    found = batches(PICTURES, 1 << 17)
    assert [(b.numbers, b.grey) for b in found] == [([0, 2, 3], False), ([1], False), ([4], True)]
    assert [b.numbers for b in batches(PICTURES, 1 << 17, by_grey=False)] == [[0, 2, 3, 4], [1]]
    for batch in found:
        assert len(batch) == len(batch.x) == len(batch.numbers)
        assert all(np.array_equal(x.permute(1, 2, 0).numpy(), PICTURES[i]) for x, i in zip(batch.x, batch.numbers))


@pytest.mark.parametrize(("most", "sizes"), [(1, [1, 1, 1]), (511, [1, 1, 1]), (512, [2, 1]), (768, [3])])
def test_parts_have_so_many_pixels_at_most(most, sizes):
    assert [len(members) for _, members in parts(PICTURES[:1] + PICTURES[2:4], most)] == sizes


def test_some_of_them_keep_their_numbers():
    assert alike(PICTURES, [3, 1, 0]) == [(False, [3, 0]), (False, [1])]
    assert alike(PICTURES, []) == batches(PICTURES, 1, []) == []


def test_so_many_at_random_in_their_order():
    numbers = list(range(20))
    assert some(numbers, None, 0) == some(numbers, 20, 0) == some(numbers, 99, 0) == numbers
    few = some(numbers, 5, 3)
    assert few == sorted(set(few)) == some(numbers, 5, 3) != some(numbers, 5, 4)
    assert len(few) == 5
