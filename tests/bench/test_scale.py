import json

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from bench import scale
from bench.harness.photograph import sized
from tests.conftest import smooth_picture


@pytest.mark.parametrize("pixels", [100, 4000, 30_000])
def test_other_sizes_have_the_same_content(pixels):
    picture = smooth_picture(40, 60)
    other = sized(picture, pixels)
    assert other.shape[0] * other.shape[1] == pytest.approx(pixels, rel=0.06)
    assert other.shape[1] / other.shape[0] == pytest.approx(1.5, rel=0.06)
    common = [slice(0, min(n, m)) for n, m in zip(picture.shape[:2], other.shape[:2])]
    assert np.array_equal(other[tuple(common)], picture[tuple(common)])
    if pixels > 20_000:
        assert np.array_equal(other[40:79, :60], picture[-2::-1])


def test_time_and_memory_of_the_real_command(models, tmp_path):
    Image.fromarray(smooth_picture(40, 60)).save(tmp_path / "a.png")
    out = ["-o", str(tmp_path / "s.json"), "-p", str(tmp_path / "s.png")]
    arguments = [str(tmp_path / "a.png"), "--megapixels", "0.001", "--rate", "1", "--model", "tiny", *out]
    CliRunner().invoke(scale.main, arguments, catch_exceptions=False)
    first, row = json.loads((tmp_path / "s.json").read_text())["rows"]
    assert first["width"] * first["height"] == pytest.approx(64, rel=0.2)
    assert row["width"] * row["height"] == pytest.approx(1000, rel=0.1)
    assert 8 * row["bytes"] <= 3 * row["width"] * row["height"]
    assert row["psnr"] > 15
    assert all(50 < row[what] < 2000 for what in ("encode_mb", "decode_mb"))
    assert 0 < row["decode_s"] < 100
    assert Image.open(tmp_path / "s.png").width > 500


def test_a_command_that_fails_is_told(models, tmp_path):
    with pytest.raises(scale.click.ClickException, match="status"):
        scale.run("decode", str(tmp_path / "absent.ddpm"))
