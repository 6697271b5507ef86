"""A file has one or two bytes of its model's fingerprint: where models share them, nothing is left to chance."""

import json
import shutil

import numpy as np
import pytest

from codec import Codec, Target, api, decode
from codec.errors import CodecError, UnknownModel
from codec.format.models import Opener, known_cards, opener_of
from ddpm.models.load import load_model
from ddpm.models.store import read_card
from tests.conftest import smooth_picture


@pytest.fixture
def twins(models, tmp_path, monkeypatch):
    """tiny-1 and a model of other tables whose fingerprint begins with the same byte."""
    for suffix in (".json", ".safetensors"):
        shutil.copy(models / f"tiny-1{suffix}", tmp_path)
        shutil.copy(models / f"tiny-1{suffix}", tmp_path / f"mine-1{suffix}")
    wanted = read_card(tmp_path / "tiny-1")["fingerprint"][:2]
    card = json.loads((tmp_path / "mine-1.json").read_text())
    for i in range(1, 5000):
        card["coding"]["surplus"] = 1.05 + i / 1e6
        (tmp_path / "mine-1.json").write_text(json.dumps(card))
        if read_card(tmp_path / "mine-1")["fingerprint"][:2] == wanted:
            break
    monkeypatch.setenv("DDPM_CODEC_MODELS", str(tmp_path))
    known_cards.cache_clear()
    api._codec.cache_clear()
    yield
    known_cards.cache_clear()
    api._codec.cache_clear()


@pytest.mark.parametrize("name", ["tiny-1", "mine-1"])
def test_the_checksum_of_a_whole_file_decides(twins, name):
    codec, picture = Codec(name), smooth_picture(16, 16)
    for target in (Target(bits_per_dim=0.8), Target(lossless=True)):
        data = codec.encode(picture, target, store=False).data
        assert api.codec_for(data).model.name == name
        assert np.array_equal(decode(data).array, codec.decode(data).array)


def test_what_is_cut_or_damaged_is_refused_with_the_names(twins):
    data = Codec("mine-1").encode(smooth_picture(16, 16), Target(bits_per_dim=0.8)).data
    damaged = bytearray(data)
    damaged[-9] ^= 1
    for bad in (data[:-1], data[:20], bytes(damaged)):
        with pytest.raises(UnknownModel, match=r"mine-1.*tiny-1|tiny-1.*mine-1"):
            decode(bad)
    assert decode(data[:-1], model="mine-1").complete is False
    with pytest.raises(CodecError):
        decode(bytes(damaged), model="mine-1")


@pytest.mark.parametrize("name", ["tiny-1", "cifar10", "photo"])
def test_a_card_says_of_files_what_the_model_does(models, name):
    """So what they hold is told without its network."""
    of_card, of_model = opener_of(name), Opener.of(load_model(name))
    assert (of_card.maker, of_card.knows_bf16) == (of_model.maker, of_model.knows_bf16)
    for size in ((16, 16), (40, 50)):
        for grey in (False, True):
            assert of_card.plan(*size, grey) == of_model.plan(*size, grey)
