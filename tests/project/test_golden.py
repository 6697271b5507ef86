"""A released model decodes its files for ever: one file of each, with the picture that it must give."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from codec import decode, inspect

GOLDEN = Path(__file__).parent / "golden"
WEIGHTS = Path(__file__).parents[2] / "ddpm" / "weights"
FILES = sorted(GOLDEN.glob("*.ddpm"))


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_golden_file(path):
    """With an exact network to the last bit. Else, if lossy, within one level in 0.1% of the values, what the rounding
    of other machines may do; 5% if made in bfloat16.
    """
    data = path.read_bytes()
    assert path.stem.startswith(inspect(data).model)
    expected = np.asarray(Image.open(path.with_suffix(".png"))).astype(int)
    shown = decode(data)
    assert shown.complete
    assert shown.array.shape == expected.shape
    if inspect(data).header.mode.startswith("lossless"):
        assert np.array_equal(shown.array, expected)
    if (WEIGHTS / f"{inspect(data).model}.exact.safetensors").exists():
        assert np.array_equal(shown.array, expected)
    difference = np.abs(shown.array.astype(int) - expected)
    assert difference.max() <= 1
    assert (difference > 0).mean() <= (0.05 if inspect(data).header.bf16 else 1e-3)


def test_each_shipped_model_has_one():
    for card in WEIGHTS.glob("*.json"):
        assert any(f.stem.startswith(card.stem) for f in FILES), card.stem
