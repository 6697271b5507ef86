"""What training sees of the pictures, and the pictures that no camera made."""

import numpy as np
import pytest
import torch

from ddpm.training.crops import Crops, box_mean
from ddpm.training.soft import GRAIN, softened
from ddpm.training.synthetic import drawn
from tests.conftest import smooth_picture


def test_box_mean():
    image = smooth_picture(5, 4)
    expected = np.rint(image[:4].astype(float).reshape(2, 2, 2, 2, 3).mean((1, 3)))
    assert np.array_equal(box_mean(image, 2), expected.astype(np.uint8))


def test_crops_are_parts_of_the_pictures_or_their_mirror_images():
    pictures = [smooth_picture(20, 30, 1), smooth_picture(17, 16, 2)]
    crops = Crops(pictures, 16)
    seen = crops.sample(200, torch.Generator().manual_seed(0)).permute(0, 2, 3, 1).numpy()
    windows = {
        part.tobytes()
        for p in pictures
        for flip in (p, p[:, ::-1])
        for y in range(p.shape[0] - 15)
        for x in range(p.shape[1] - 15)
        for part in [np.ascontiguousarray(flip[y : y + 16, x : x + 16])]
    }
    assert all(np.ascontiguousarray(s).tobytes() in windows for s in seen)
    assert len({s.tobytes() for s in seen}) > 60


def test_a_share_of_the_crops_is_drawn():
    crops = Crops([np.full((20, 20, 3), 77, np.uint8)], 16, share_drawn=0.25)
    batch = crops.sample(2000, torch.Generator().manual_seed(0))
    assert batch.shape == (2000, 3, 16, 16)
    other = (batch != 77).flatten(1).any(1)
    assert 0.2 < other.float().mean() < 0.3
    again = crops.sample(2000, torch.Generator().manual_seed(0))
    assert torch.equal(batch, again)


def test_drawn_pictures_are_plain_or_of_few_colours_with_sharp_edges():
    batch = drawn(600, 24, torch.Generator().manual_seed(0))
    assert (batch.dtype, batch.shape) == (torch.uint8, (600, 3, 24, 24))
    colours = [len(p.flatten(1).T.unique(dim=0)) for p in batch]
    assert 0.2 < np.mean([n == 1 for n in colours]) < 0.5
    assert 5 < max(colours) <= 9
    for extreme in (0, 255):
        assert 0.05 < (batch[:, :, 0, 0] == extreme).float().mean() < 0.3
    rows = (batch[:, :, 1:] != batch[:, :, :-1]).any(1)  # edges run along rows and columns
    assert rows.any(2).float().mean() < 0.3


def test_no_picture_is_large_enough():
    with pytest.raises(ValueError, match="no picture holds"):
        Crops([smooth_picture(8, 8)], 16)


def test_a_share_of_the_crops_is_soft():
    """Enlarged, so neighbours differ less; where there was one colour, grain alone is left of it."""
    board = (np.indices((64, 64)).sum(0) % 2 * 200 + 20).astype(np.uint8)[..., None].repeat(3, 2)
    crops = Crops([board], 16, share_soft=0.25)
    batch = crops.sample(2000, torch.Generator().manual_seed(0))
    assert (batch.dtype, batch.shape) == (torch.uint8, (2000, 3, 16, 16))
    other = ~((batch == 20) | (batch == 220)).flatten(1).all(1)
    assert 0.2 < other.float().mean() < 0.3
    steps = batch[other].float().diff(dim=3).abs().mean((1, 2, 3))
    assert steps.median() < 170  # of 200 where it is sharp
    assert steps.min() < 110
    assert torch.equal(batch, crops.sample(2000, torch.Generator().manual_seed(0)))


def test_soft_crops_have_grain():
    plain = torch.full((400, 3, 24, 24), 128, dtype=torch.uint8)
    noise = softened(plain, torch.Generator().manual_seed(0)).float().std((1, 2, 3))
    assert 1 < noise.mean() < GRAIN / 2 + 0.2
    assert noise.min() < 0.5
    assert noise.max() < GRAIN + 0.2
