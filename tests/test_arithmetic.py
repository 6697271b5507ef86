"""Products in bfloat16: the same on all machines but for the order of sums, and only in files that say so."""

import dataclasses

import numpy as np
import pytest
import torch

import ddpm.arithmetic
from codec import Codec, Target, api, decode, inspect
from codec.container import Header, checksum
from codec.errors import DamagedFile
from codec.pictures import read_picture
from ddpm import local
from ddpm.arithmetic import Exact, Rounded
from ddpm.model import load_model

from .test_golden import GOLDEN
from .test_local import cut


@pytest.fixture(scope="module")
def photo():
    return Codec("photo")


@pytest.fixture(scope="module")
def picture():
    return np.asarray(read_picture(GOLDEN / "photo-3.png"))[:48, :64]


def psnr(a, b):
    return 10 * np.log10(255**2 / np.mean((a.astype(float) - b) ** 2))


@pytest.mark.parametrize("native", [True, False])
def test_operands_and_results_are_rounded_and_sums_are_not(native):
    torch.manual_seed(0)
    layer, x = torch.nn.Conv2d(32, 8, 3), torch.randn(1, 12, 20, 32)
    rounded = lambda t: t.detach().bfloat16().double()  # noqa: E731
    exact = torch.nn.functional.conv2d(rounded(x).permute(0, 3, 1, 2), rounded(layer.weight), rounded(layer.bias))
    with torch.inference_mode():
        y = Rounded(x.device, native).conv(layer, x, 0).permute(0, 3, 1, 2)
    assert y.dtype == (torch.bfloat16 if native else torch.float32)
    assert torch.equal(y.float(), y.bfloat16().float())
    assert (y.float() != exact.bfloat16().float()).float().mean() < 2e-3  # at the middle between two values
    assert (y.double() - exact).abs().max() <= 2**-8 * exact.abs().max()


def test_a_local_network_says_nearly_the_same(photo, picture, monkeypatch):
    x = torch.from_numpy(picture.copy()).permute(2, 0, 1)[None] / 127.5 - 1
    z, gamma = x * 0.7 + 0.7 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0)), torch.zeros(1)
    answers = {}
    with torch.inference_mode():
        answers["fp32"] = photo.model(z, gamma)[0]
        for native in (True, False):
            monkeypatch.setattr(local, "Rounded", lambda device, native=native: Rounded(device, native))
            answers[native] = photo.model(z, gamma, bf16=True)[0]
    distance = lambda a, b: float((answers[a] - answers[b]).square().mean().sqrt())  # noqa: E731
    assert 0 < distance(True, "fp32") < 1e-3
    assert distance(True, False) < 1e-3


def test_files_say_so_and_decode_alike_where_it_is_not_native(photo, picture, monkeypatch):
    monkeypatch.setattr(api, "has_fast_bf16", lambda device: True)
    for rate in (0.1, 1.0):
        [file] = photo.encode([picture], Target(bits_per_dim=rate))
        assert inspect(file.data).header.mode == "lossy, bf16"
        shown = []
        for native in (True, False):
            monkeypatch.setattr(ddpm.arithmetic, "has_fast_bf16", lambda device, native=native: native)
            shown.append(photo.decode([file.data])[0].array.astype(int))
        assert np.abs(shown[0] - shown[1]).max() <= 1
        assert (shown[0] != shown[1]).mean() < 0.05
        assert psnr(picture, shown[0]) == pytest.approx(psnr(picture, shown[1]), abs=0.02)
        cut = photo.decode([file.data[: len(file.data) // 2]])[0]
        assert 0 < cut.steps < inspect(file.data).header.steps


@pytest.mark.parametrize(("fast", "options"), [(False, {}), (True, {"fp32": True})])
def test_other_files_are_made_in_float32(photo, picture, monkeypatch, fast, options):
    monkeypatch.setattr(api, "has_fast_bf16", lambda device: fast)
    monkeypatch.setattr(local, "Rounded", None)
    [file] = photo.encode([picture], Target(bits_per_dim=0.1), **options)
    assert inspect(file.data).header.mode == "lossy"
    assert photo.decode([file.data])[0].complete


def test_lossless_files_are_made_in_float32(photo, picture, monkeypatch):
    monkeypatch.setattr(api, "has_fast_bf16", lambda device: True)
    monkeypatch.setattr(local, "Rounded", None)
    [file] = photo.encode([picture[:16, :16]], Target(lossless=True))
    assert np.array_equal(photo.decode([file.data])[0].array, picture[:16, :16])


def test_models_that_do_not_know_it_refuse_it(codec, monkeypatch):
    """Also where the header's own checksum is right."""
    monkeypatch.setattr(api, "has_fast_bf16", lambda device: True)
    [file] = codec.encode([np.full((16, 16, 3), 90, np.uint8)], Target(bits_per_dim=0.5))
    info = inspect(file.data)
    assert info.header.mode == "lossy"
    header = dataclasses.replace(info.header, mode="lossy, bf16").pack(16)
    payload = file.data[info.header_bytes : -2]
    with pytest.raises(DamagedFile, match="arithmetic"):
        decode(header + payload + checksum(header, payload, codec.model.fingerprint))
    assert Header.unpack(header, lambda byte: 16)[0].bf16


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("name", ["photo-4", "photo"])
def test_strips_give_nearly_what_the_whole_gives(monkeypatch, name, native):
    """To less than bfloat16 itself makes of it; the cuts only change the order of sums."""
    model, z = load_model(name), torch.randn(1, 3, 72, 40, generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr(local, "Rounded", lambda device: Rounded(device, native))
    answers = []
    for at_once in (1 << 30, 64):
        cut(monkeypatch, at_once)
        with torch.inference_mode():
            answers.append(model(z, torch.zeros(1), bf16=True)[0])
    with torch.inference_mode():
        rounded = float((answers[0] - model(z, torch.zeros(1))[0]).square().mean().sqrt())
    between = float((answers[0] - answers[1]).square().mean().sqrt())
    assert between < rounded
    if name == "photo-4":
        assert between < 1e-3


def test_exact_leaves_maps_as_they_are():
    x = torch.randn(1, 4, 4, 3)
    assert Exact().round(x) is x
