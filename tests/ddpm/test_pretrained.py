"""Models as diffusers saves them, as models to code with."""

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from codec import Codec, Target, decode
from codec.cli.app import cli
from codec.errors import CodecError, UnknownModel
from codec.images.pictures import png_bytes
from ddpm.models.load import load_model
from ddpm.models.pretrained import STEM, TABLES
from tests.conftest import smooth_picture

from .pretrained_folders import save


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny model with coding tables, made by the command line."""
    folder = tmp_path_factory.mktemp("pretrained") / "tiny"
    save(folder)
    pictures = folder.parent / "pictures"
    pictures.mkdir()
    for i in range(2):
        (pictures / f"{i}.png").write_bytes(png_bytes(smooth_picture(16, 16, i)))
    small = ["--steps", "12", "--memory", "6", "--min-bits", "12", "--device", "cpu", "--quiet"]
    done = CliRunner().invoke(cli, ["calibrate", str(folder), str(pictures), *small], catch_exceptions=False)
    assert done.exit_code == 0
    return folder


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (17, 23)])
def test_any_size_and_gamma(folder, size):
    model = load_model(str(folder))
    gamma = torch.tensor([model.schedule.gamma_max, 0.1234, model.schedule.gamma_min - 3])
    with torch.inference_mode():
        eps_hat, log_m = model(torch.randn(3, 3, *size), gamma)
    assert eps_hat.shape == log_m.shape == (3, 3, *size)
    assert torch.isfinite(eps_hat).all()
    assert torch.isfinite(log_m).all()


@pytest.mark.parametrize(("shape", "channels"), [((16, 16), 3), ((13, 22), 1)])
def test_encode_and_decode(folder, shape, channels):
    picture = smooth_picture(*shape, 9, channels)
    [file] = Codec(str(folder), "cpu").encode([picture], Target(bits_per_dim=3.0))
    whole = decode(file.data, model=str(folder), device="cpu")
    assert whole.complete
    assert whole.array.shape == picture.shape
    assert np.mean((whole.array.astype(float) - picture) ** 2) == pytest.approx(file.mse)
    assert file.mse < np.var(picture.astype(float))
    for n in range(14, len(file.data), max(1, len(file.data) // 3)):
        part = decode(file.data[:n], model=str(folder), device="cpu")
        assert part.array.shape == picture.shape
        assert part.steps <= whole.steps


def test_a_model_in_memory_and_the_native_size(folder):
    codec = Codec(load_model(str(folder)))
    files = codec.encode([smooth_picture(16, 16)], Target(bytes=200)) + codec.encode(
        [smooth_picture(16, 17)], Target(bytes=200)
    )
    assert [codec.open(f.data).info.header_bytes for f in files] == [7, 9]


def test_fingerprint_covers_tables_weights_and_schedule(folder, tmp_path):
    prints = {load_model(str(folder)).fingerprint}
    save(tmp_path)
    prints.add(load_model(str(tmp_path)).fingerprint)
    (tmp_path / TABLES).write_text((folder / TABLES).read_text())
    assert load_model(str(tmp_path)).fingerprint == load_model(str(folder)).fingerprint
    save(tmp_path, beta_end=0.03)
    prints.add(load_model(str(tmp_path)).fingerprint)
    net = save(tmp_path)
    net.conv_in.bias.data += 1
    net.save_pretrained(tmp_path)
    prints.add(load_model(str(tmp_path)).fingerprint)
    assert len(prints) == 4


def test_without_tables_nothing_is_coded(tmp_path):
    save(tmp_path)
    with pytest.raises(CodecError, match="no coding tables; calibrate it first"):
        Codec(str(tmp_path), "cpu")


def test_where_calibrate_writes(folder, models):
    def run(*arguments):
        with pytest.raises(CodecError) as caught:
            CliRunner().invoke(cli, ["calibrate", *map(str, arguments)], catch_exceptions=False)
        return str(caught.value)

    assert "leave -o out" in run(folder, folder.parent / "pictures", "-o", "x")
    assert "say with -o" in run("tiny-1", folder.parent / "pictures")
    assert sorted(p.name for p in folder.iterdir()) == [
        "config.json",
        TABLES,
        STEM + ".safetensors",
        "scheduler_config.json",
    ]


def test_a_folder_by_another_way(folder, monkeypatch):
    monkeypatch.chdir(folder)
    assert load_model(".").name == "tiny"
    assert load_model(str(folder) + "/").name == "tiny"
    with pytest.raises(UnknownModel, match="no model"):
        load_model("..")
