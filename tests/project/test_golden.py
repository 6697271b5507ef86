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
    """To the last bit, on any machine."""
    data = path.read_bytes()
    assert path.stem.startswith(inspect(data).model)
    shown = decode(data)
    assert shown.complete
    assert np.array_equal(shown.array, np.asarray(Image.open(path.with_suffix(".png"))))


def test_each_shipped_model_has_one():
    for card in WEIGHTS.glob("*.json"):
        assert any(f.stem.startswith(card.stem) for f in FILES), card.stem
