"""A file has two bytes of its model's fingerprint: where models share them, nothing is left to chance."""

import hashlib
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
    """tiny-1 and a model of other weights whose fingerprint begins with the same two bytes."""
    for suffix in (".json", ".safetensors"):
        shutil.copy(models / f"tiny-1{suffix}", tmp_path)
        shutil.copy(models / f"tiny-1{suffix}", tmp_path / f"mine-1{suffix}")
    card, weights = read_card(tmp_path / "tiny-1"), (tmp_path / "tiny-1.safetensors").read_bytes()
    essence = json.dumps([card["config"], card["coding"]], sort_keys=True, separators=(",", ":")).encode()
    begun = hashlib.sha256(hashlib.sha256(essence).digest() + weights[:-4])
    for end in range(1 << 20):
        last = (end % 0x4000 + (end // 0x4000 << 16)).to_bytes(4, "little")  # two numbers below 2
        whole = begun.copy()
        whole.update(last)
        if whole.hexdigest()[:4] == card["fingerprint"][:4] and last != weights[-4:]:
            break
    else:
        raise AssertionError("none in a million")
    (tmp_path / "mine-1.safetensors").write_bytes(weights[:-4] + last)
    assert read_card(tmp_path / "mine-1")["fingerprint"] == whole.hexdigest() != card["fingerprint"]
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
    assert of_card.maker == of_model.maker
    for size in ((16, 16), (40, 50)):
        for grey in (False, True):
            assert of_card.plan(*size, grey) == of_model.plan(*size, grey)
