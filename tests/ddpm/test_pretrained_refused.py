"""What is no model of diffusers, or none that is supported, is refused in one line."""

import json
import sys

import pytest
from safetensors.torch import load_file, save_file

from codec.errors import UnknownModel
from ddpm.models.load import load_model
from ddpm.models.pretrained import STEM, TABLES

from .pretrained_folders import save


def change(path, **values):
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def pickled(folder):
    (folder / (STEM + ".safetensors")).rename(folder / (STEM + ".bin"))


def halved(folder):
    path = folder / (STEM + ".safetensors")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def renamed(folder):
    path = folder / (STEM + ".safetensors")
    save_file({"x" + k: v for k, v in load_file(path).items()}, path)


CONFIG = [
    ({"out_channels": 6}, "learned variances"),
    ({"in_channels": 1}, "in_channels 1"),
    ({"block_out_channels": [32, 32]}, "do not agree"),
    ({"block_out_channels": [2**40, 2**40]}, "block_out_channels"),
    ({"block_out_channels": "many"}, "block_out_channels"),
    ({"layers_per_block": 10**9}, "layers_per_block"),
    ({"down_block_types": ["DownBlock2D", "os.system"]}, "os.system"),
    ({"norm_num_groups": 7}, "config.json"),
    ({"attention_head_dim": 0}, "config.json"),
    ({"class_embed_type": "timestep"}, "class_embed_type"),
    ({"time_embedding_type": "fourier"}, "time_embedding_type"),
    ({"_class_name": "UNet3DModel"}, "UNet3DModel"),
]

SCHEDULER = [
    ({"variance_type": "learned_range"}, "learned_range"),
    ({"beta_schedule": "?"}, "unknown beta schedule"),
    ({"beta_end": 2.0}, "between 0 and 1"),
    ({"beta_start": "x"}, "could not convert"),
    ({"num_train_timesteps": 10**12}, "num_train_timesteps"),
    ({"prediction_type": "?"}, "prediction_type"),
    ({"rescale_betas_zero_snr": True}, "rescale_betas_zero_snr"),
    ({"trained_betas": 3}, "not a model"),
    ({"_class_name": "ScoreSdeVeScheduler"}, "ScoreSdeVeScheduler"),
]

DAMAGE = [
    (pickled, "safe_serialization=True"),
    (halved, "not a model"),
    (renamed, "do not agree"),
    (lambda f: (f / (STEM + ".safetensors")).unlink(), f"no {STEM}.safetensors"),
    (lambda f: (f / "config.json").unlink(), "no config.json"),
    (lambda f: (f / "config.json").write_text("{"), "config.json"),
    (lambda f: (f / "config.json").write_bytes(b"\xff\xfe"), "config.json"),
    (lambda f: (f / "scheduler_config.json").unlink(), "no scheduler_config.json"),
    (lambda f: (f / "scheduler_config.json").write_text("[]"), "scheduler_config.json"),
    (lambda f: (f / TABLES).write_text("{"), TABLES),
]
DAMAGE += [(lambda f, v=v: change(f / "config.json", **v), words) for v, words in CONFIG]
DAMAGE += [(lambda f, v=v: change(f / "scheduler_config.json", **v), words) for v, words in SCHEDULER]


@pytest.mark.parametrize(("damage", "words"), DAMAGE, ids=[words for _, words in DAMAGE])
def test_what_is_refused_in_one_line(tmp_path, damage, words):
    save(tmp_path)
    damage(tmp_path)
    with pytest.raises(UnknownModel) as caught:
        load_model(str(tmp_path))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_pickle_by_itself(tmp_path):
    (tmp_path / "model.ckpt").write_bytes(b"")
    with pytest.raises(UnknownModel, match="convert"):
        load_model(str(tmp_path / "model.ckpt"))


def test_without_the_extra(tmp_path, monkeypatch):
    save(tmp_path)
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(UnknownModel, match=r"pip install 'ddpm-codec\[diffusers\]'"):
        load_model(str(tmp_path))
