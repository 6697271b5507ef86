"""The shipped model for photographs on pictures that are none."""

import numpy as np
import pytest

from codec import Codec, Target


@pytest.fixture(scope="module")
def photo():
    return Codec("photo")


@pytest.mark.parametrize("colour", [(150, 190, 230), (220, 30, 40)])
def test_a_flat_picture_stays_flat_within_a_level_and_a_half(photo, colour):
    picture = np.broadcast_to(np.array(colour, np.uint8), (48, 64, 3)).copy()
    [file] = photo.encode([picture], Target(bits_per_dim=0.2), store=False)
    assert photo.open(file.data).info.free
    difference = photo.decode([file.data])[0].array.astype(float) - picture
    assert np.abs(difference.mean((0, 1))).max() < 0.5
    assert np.quantile(np.abs(difference), 0.999) <= 1.5


def test_a_screen_is_smaller_than_its_pixels(photo):
    picture = np.full((64, 80, 3), (240, 240, 235), np.uint8)
    for i, colour in enumerate([(200, 30, 40), (20, 20, 20), (30, 60, 200), (255, 255, 255)]):
        picture[8 + 10 * i : 22 + 12 * i, 5 + 17 * i : 30 + 15 * i] = colour
    picture = picture[:48, :64]
    [file] = photo.encode([picture], Target(lossless=True), store=False)
    assert len(file.data) < 0.5 * picture.size
    assert np.array_equal(photo.decode([file.data])[0].array, picture)
