import json
import math

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from codec import Codec, CodecError, Target, decode, inspect
from codec.device import pick_device
from codec.images.pictures import Picture
from codec.lossy import multipass as sending
from tests.conftest import smooth_picture

PICTURE = smooth_picture(24, 20, 3)


def encode(codec, picture, **target):
    [file] = codec.encode([picture], Target(**target))
    return file


@pytest.fixture(scope="module")
def file(codec):
    return encode(codec, PICTURE, bytes=200)


@pytest.fixture(scope="module")
def short(codec):
    return encode(codec, PICTURE, bytes=60).data


@pytest.mark.parametrize("n", [40, 60, 120, 200, 301, 450])
def test_the_file_is_never_larger_than_asked_and_uses_it(codec, n):
    file = encode(codec, PICTURE, bytes=n)
    assert len(file.data) <= n
    if n > 300:
        assert len(file.data) >= 0.97 * n


def test_units_agree(codec):
    by_dim = encode(codec, PICTURE, bits_per_dim=1.0)
    by_pixel = encode(codec, PICTURE, bits_per_pixel=3.0)
    by_bytes = encode(codec, PICTURE, bytes=180)
    assert by_dim.data == by_pixel.data == by_bytes.data
    assert by_dim.bits_per_dim == pytest.approx(8 * len(by_dim.data) / 1440)


def test_figures_are_those_of_the_decoded_picture(file):
    shown = decode(file.data)
    assert shown.complete
    mse = np.mean((shown.array.astype(float) - PICTURE) ** 2)
    assert 10 * math.log10(255**2 / mse) == pytest.approx(file.psnr, abs=0.01)


def test_psnr_target_is_reached_by_a_file_that_hardly_exceeds_it(codec, monkeypatch):
    """By less, over some targets, than the file that ends with the first step to reach it."""
    exceeded, highest = np.zeros(2), encode(codec, PICTURE, bytes=250).psnr
    for asked in (highest - 0.2, highest - 0.5, highest - 0.8, highest - 1.1):
        file = encode(codec, PICTURE, psnr=asked)
        shown = decode(file.data).array
        assert 10 * math.log10(255**2 / np.mean((shown.astype(float) - PICTURE) ** 2)) >= asked - 0.01
        steps = inspect(file.data).steps
        assert steps < codec.plan(24, 20, False).steps
        with monkeypatch.context() as patch:
            patch.setattr(sending, "TRIALS", 0)
            patch.setattr(sending, "SMALL", 0)
            first = encode(codec, PICTURE, psnr=asked)
        before = list(codec.stages(first.data))[-2]
        assert asked <= first.psnr
        assert before.bytes < len(file.data) <= len(first.data)
        assert 10 * math.log10(255**2 / np.mean((before.array.astype(float) - PICTURE) ** 2)) < asked
        exceeded += file.psnr - asked, first.psnr - asked
    assert exceeded[0] < max(0.4, 0.7 * exceeded[1])


def test_the_smallest_pictures_decode_to_what_was_measured(codec):
    """Their later steps may have no bits at all; the decoder must stop where the file says."""
    dot = np.array([[[200, 30, 90]]], np.uint8)
    file = encode(codec, dot, steps=2)
    shown = decode(file.data)
    assert shown.steps == inspect(file.data).header.steps
    assert np.mean((shown.array.astype(float) - dot) ** 2) == pytest.approx(file.mse, abs=1)


@pytest.mark.parametrize("cut", range(0, 200, 7))
def test_any_prefix_decodes(file, cut):
    data = file.data[: len(file.data) - cut]
    if len(data) < 8:
        with pytest.raises(CodecError):
            decode(data)
        return
    shown = decode(data)
    assert shown.complete == (cut == 0)
    assert shown.array.shape == PICTURE.shape


@pytest.mark.parametrize("shape", [(32, 32, 3), (24, 40)])
def test_stages_show_what_the_first_bytes_decode_to(codec, shape):
    picture = smooth_picture(*shape[:2])
    picture = picture if len(shape) == 3 else picture[..., 0]
    [file] = codec.encode([picture], Target(bits_per_dim=1.0))
    stages = list(codec.stages(file.data))
    assert len(stages) == codec.open(file.data).info.header.steps + 1
    assert [s.bytes for s in stages] == sorted(s.bytes for s in stages)
    for stage in stages[1::3]:
        assert np.array_equal(stage.array, codec.decode([file.data[: stage.bytes]])[0].array)
    assert np.array_equal(stages[-1].array, codec.decode([file.data])[0].array)
    assert len(list(codec.stages(file.data[: stages[4].bytes]))) == 5


@pytest.mark.parametrize("effort", [1, 3])
def test_less_effort_takes_fewer_steps(codec, effort):
    picture = smooth_picture(32, 32)
    lossless, lossy = (
        codec.encode(picture, t, store=False, effort=effort) for t in (Target(lossless=True), Target(psnr=34))
    )
    assert lossy.psnr >= 34
    shown = codec.decode(lossless.data)
    assert np.array_equal(shown.array, picture)
    assert shown.header.stride == 5 - effort
    most = codec.plan(32, 32, False).steps
    assert -(-most // shown.header.stride) <= shown.steps <= -(-most // shown.header.stride) + 1
    for data in (lossless.data, lossy.data):
        cut = data[: len(data) // 3]
        assert 0 < codec.decode(cut).steps < codec.decode(data).steps
        *_, last = codec.stages(cut)
        assert np.array_equal(last.array, codec.decode(cut[: last.bytes]).array)


@pytest.mark.parametrize("effort", [0, 5, 2.0, "most"])
def test_efforts_that_there_are_not(codec, effort):
    with pytest.raises(CodecError, match="effort"):
        codec.encode(smooth_picture(8, 8), Target(psnr=30), effort=effort)


def test_prefix_by_rate_is_the_prefix_of_the_file(codec):
    data = encode(codec, PICTURE, bytes=300).data
    by_rate = decode(data, rate=0.9).array
    by_cut = decode(data[: int(0.9 * 1440 / 8)]).array
    assert np.array_equal(by_rate, by_cut)


def test_grey_stays_grey_and_costs_less(codec):
    grey = PICTURE[..., 1]
    file = encode(codec, grey, bits_per_pixel=1.0)
    assert file.dims == grey.size
    assert decode(file.data).array.shape == grey.shape
    assert decode(file.data).image.mode == "L"
    tripled = np.repeat(grey[..., None], 3, 2)
    assert encode(codec, tripled, bits_per_pixel=1.0).data == file.data


def test_too_small_a_target_names_the_minimum(codec):
    with pytest.raises(CodecError, match="has 11 bytes"):
        encode(codec, PICTURE, bytes=9)
    assert len(encode(codec, PICTURE, bytes=11).data) == 11
    with pytest.raises(CodecError, match=r"has 11 bytes$"):
        encode(codec, PICTURE, bytes=9)
    with pytest.raises(CodecError, match=r"has 11 bytes, [0-9.]+ bits/dim$"):
        encode(codec, PICTURE, bits_per_dim=0.01)


def test_ideal_channel_writes_nothing(codec):
    [file] = codec.encode([PICTURE], Target(bytes=200), channel="ideal")
    assert file.data == b""
    assert file.ideal_bits > 0


@pytest.mark.parametrize("target", [{}, {"bytes": 5, "psnr": 3.0}, {"bits_per_dim": -1.0}, {"psnr": math.nan}])
def test_bad_targets(target):
    with pytest.raises(CodecError):
        Target(**target)


def test_every_flipped_byte_is_refused(short):
    for at in range(len(short)):
        for flip in (1, 0x80, 0xFF):
            damaged = short[:at] + bytes([short[at] ^ flip]) + short[at + 1 :]
            with pytest.raises(CodecError):
                decode(damaged)


def test_what_follows_the_end_is_refused(short):
    with pytest.raises(CodecError, match="longer"):
        decode(short + b"\0")


@given(st.binary(max_size=80))
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_noise_is_refused_in_one_family(codec, data):
    with pytest.raises(CodecError):
        inspect(b"\xdc" + data)


def test_wrong_model(short, models, tmp_path):
    card = json.loads((models / "tiny-1.json").read_text())
    card["coding"]["min_bits"] += 1
    (tmp_path / "other-1.json").write_text(json.dumps(card))
    (tmp_path / "other-1.safetensors").write_bytes((models / "tiny-1.safetensors").read_bytes())
    with pytest.raises(CodecError, match="not made with"):
        decode(short, model=str(tmp_path / "other-1"))
    with pytest.raises(CodecError, match="no model"):
        Codec("nothing")


def test_info(file):
    i = inspect(file.data[:100])
    assert (i.header.width, i.header.height) == (20, 24)
    assert i.whole_bytes == len(file.data)
    assert i.file_bytes == 100
    assert not i.complete
    assert 0 < i.steps < inspect(file.data).steps


def test_pil_images_and_size_mix(codec):
    image = Image.fromarray(PICTURE)
    assert encode(codec, image, bytes=100).data == encode(codec, PICTURE, bytes=100).data
    files = codec.encode([PICTURE, PICTURE[1:], PICTURE], Target(bytes=100))
    assert [decode(file.data).array.shape for file in files] == [(24, 20, 3), (23, 20, 3), (24, 20, 3)]
    assert files[0].data == files[2].data == encode(codec, PICTURE, bytes=100).data


@pytest.mark.parametrize(("shape", "most", "small"), [
    ((48, 40), 16, (16, 14)),
    ((48, 40, 3), 24, (24, 20)),
    ((48, 40, 4), 20, (16, 14)),
    ((1, 90, 3), 7, (1, 7)),
    ((90, 1, 3), 1, (1, 1)),
    ((7, 9, 3), 9, (7, 9)),
])  # fmt: skip
def test_a_small_picture_needs_only_the_beginning(codec, shape, most, small):
    picture = np.random.default_rng(0).integers(0, 256, (90, 90, 4), np.uint8)
    picture[..., :3] = smooth_picture(90, 90)
    picture = np.ascontiguousarray(
        picture[: shape[0], : shape[1], : shape[2]] if len(shape) > 2 else picture[:48, :40, 0]
    )
    [file] = codec.encode([picture], Target(lossless=True), store=False)
    [whole], [shown] = codec.decode([file.data]), codec.decode([file.data], max_size=most)
    channels = shape[2:] and (min(shape[2], 3),)
    assert np.array_equal(whole.array, picture)
    assert shown.array.shape == small + channels
    if small == shape[:2]:
        assert np.array_equal(shown.array, picture)
        return
    assert shown.steps < whole.steps
    scale = -(-max(shape[:2]) // most)
    inside = [n // scale * scale for n in shape[:2]]  # beyond, an edge was mirrored
    if min(inside):
        box = picture[: inside[0], : inside[1], ..., :3] if channels else picture[: inside[0], : inside[1]]
        box = box.astype(float).reshape(inside[0] // scale, scale, inside[1] // scale, scale, *channels).mean((1, 3))
        error = box - shown.array[: box.shape[0], : box.shape[1]]
        assert np.sqrt(np.mean(error**2)) < 12


def test_of_a_cut_file_a_small_picture_shows_what_is_there(codec):
    [file] = codec.encode([PICTURE], Target(lossless=True), store=False)
    for n in range(inspect(file.data).side_bytes, len(file.data), 47):
        assert codec.decode([file.data[:n]], max_size=8)[0].array.shape == (8, 7, 3)
    with pytest.raises(CodecError, match="recon mean"):
        codec.decode([file.data], max_size=8, recon="flow")
    with pytest.raises(CodecError, match="at least one"):
        codec.decode([file.data], max_size=0)


def test_devices(monkeypatch):
    here = {"cpu", "cuda", "cuda:0", "cuda:1"}
    wrong = {"foo", "mps", "", "cuda:", "cuda:2", "cuda:99", "cuda:-1", "cuda:01", "cuda0", "meta"}
    for n in (2, 0):
        monkeypatch.setattr(torch.cuda, "is_available", lambda n=n: n > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda n=n: n)
        assert pick_device("auto") == ("cuda" if n else "cpu")
        known = here if n else {"cpu"}
        assert [pick_device(name) for name in known] == list(known)
        for name in (here | wrong) - known:
            with pytest.raises(CodecError, match="device"):
                pick_device(name)


CHECKERS = (np.add.outer(np.arange(12), np.arange(16)) % 2 * 255).astype(np.uint8)
SAYS_NOTHING = {
    "equal colours": np.dstack([CHECKERS] * 3),
    "full alpha": np.dstack([CHECKERS, 255 - CHECKERS, CHECKERS, np.full_like(CHECKERS, 255)]),
    "full alpha of grey": np.dstack([CHECKERS, np.full_like(CHECKERS, 255)]),
    "equal colours and alpha": np.dstack([CHECKERS] * 4),
}


@pytest.mark.parametrize("name", SAYS_NOTHING)
@pytest.mark.parametrize("store", [False, True])
def test_pictures_with_channels_that_say_nothing_come_back(codec, name, store):
    array = SAYS_NOTHING[name]
    file = codec.encode(Picture(array), Target(lossless=True), store=store)
    assert file.mode.startswith("stored" if store else "lossless")
    shown = np.array(decode(file.data).image.convert("RGBA"))
    assert np.array_equal(shown, np.array(Image.fromarray(array).convert("RGBA")))
    assert len(file.data) == len(codec.encode(array, Target(lossless=True), store=store).data)


@pytest.mark.parametrize("array", [np.zeros((4, 4)), np.zeros((0, 4), np.uint8), np.zeros((4, 4, 5), np.uint8), "x"])
def test_pictures_that_are_none_are_mistakes(codec, array):
    with pytest.raises(CodecError):
        codec.encode(Picture(array), Target(steps=1))


def test_seeds_that_a_file_can_say(codec):
    greatest = (1 << 63) - 1
    assert decode(codec.encode(PICTURE, Target(steps=3), seed=greatest).data).header.seed == greatest
    for seed in (-1, 1 << 63, 1.5, "x"):
        with pytest.raises(CodecError, match="seed"):
            codec.encode(PICTURE, Target(steps=3), seed=seed)


def test_rates_and_sizes_beyond_reason(codec):
    file = codec.encode(PICTURE, Target(steps=3))
    assert np.array_equal(decode(file.data, rate=1e308).array, decode(file.data).array)
    assert np.array_equal(decode(file.data, rate=math.inf).array, decode(file.data).array)
    flat = np.full((9, 9), 7, np.uint8)
    assert codec.encode(flat, Target(bits_per_dim=1e308)).mse == 0
    stored = codec.encode(flat, Target(lossless=True))
    for data in (file.data, stored.data):
        for wrong in ({"rate": math.nan}, {"rate": -1}, {"rate": "x"}, {"max_size": 1.5}, {"max_size": "x"}):
            with pytest.raises(CodecError):
                decode(data, **wrong)
    with pytest.raises(CodecError, match="whole number"):
        Target(steps=1.5)
