"""Products in bfloat16: the same on all machines but for the order of sums, and only in files that say so.

What other machines do is stood in for by other orders of the same sums, and by sums without any error.
"""

import dataclasses
import itertools
import math

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from codec import Codec, Target, decode, encoder, inspect
from codec.errors import DamagedFile
from codec.format.container import Header, checksum
from codec.images.pictures import read_picture
from codec.lossy import reconstruct
from ddpm.diffusion.likelihood import to_levels
from ddpm.models.load import load_model
from ddpm.networks import local
from ddpm.networks.arithmetic import Plain, Rounded
from tests.ddpm.test_local import cut
from tests.project.test_golden import GOLDEN


@pytest.fixture(scope="module")
def photo():
    return Codec("photo")


@pytest.fixture(scope="module")
def picture():
    return np.asarray(read_picture(GOLDEN / "photo-6.png"))[:40, :56]


@pytest.fixture(scope="module")
def detail(picture):
    return picture[:32, :48]


APART = 1 / 4  # of a level, rms: between readers of one file, see docs/format.md


class Reordered(Rounded):
    """Sums over the channels from the last to the first."""

    def _conv(self, x, weight, bias, padding):
        return super()._conv(x.flip(-1), weight.flip(1), bias, padding)


class Unerring(Rounded):
    """Sums in float64: what every order is close to."""

    def _conv(self, x, weight, bias, padding):
        return super()._conv(x.double(), weight.double(), bias.double(), padding).float()


READERS = {
    "native": lambda device: Rounded(device, True),
    "in float32": lambda device: Rounded(device, False),
    "reordered": lambda device: Reordered(device, False),
    "unerring": lambda device: Unerring(device, False),
}


def rms(a, b):
    return float(np.sqrt(np.mean((np.asarray(a, float) - b) ** 2)))


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


def within_rounding(y, exact, slack):
    """Whether y, of bfloat16 values, is what some sum within ``slack`` of ``exact`` is rounded to."""
    low, high = ((exact + s).float().bfloat16().float() for s in (-slack, slack))
    return bool(((low <= y.float()) & (y.float() <= high)).all())


@pytest.mark.parametrize("native", [True, False])
def test_each_convolution_is_that_of_the_format(monkeypatch, native):
    """However its sums are ordered: the middle of two bfloat16 is missed seldom, and by what float32 can lose."""
    model, z = load_model("photo"), torch.randn(1, 3, 48, 64, generator=torch.Generator().manual_seed(0))
    shares = {}

    class Watched(Rounded):
        def conv(self, layer, x, padding):
            y = super().conv(layer, x, padding)
            values = [t.bfloat16().double() for t in (x, layer.weight, layer.bias)]
            exact, size = (super(Rounded, self)._conv(*v, padding) for v in (values, [t.abs() for t in values]))
            terms = layer.weight[0].numel() + 1
            # each of so many sums in float32 is off by 2^-24 of what is summed; tiny values may count as 0
            assert within_rounding(y, exact, 1.01 * terms * 2**-24 * size + 2**-100)
            shares[layer] = float((y.double() != exact.float().bfloat16().double()).double().mean())
            return y

    monkeypatch.setattr(local, "Rounded", lambda device: Watched(device, native))
    with torch.inference_mode():
        model(z, torch.zeros(1), bf16=True)
    assert len(shares) == sum(isinstance(m, torch.nn.Conv2d) for m in model.net.levels.coarser.modules())
    # A sum of n terms one by one is off by some 2^-25 sqrt(n) of its own size, bfloat16 are 2^-8 or more of it apart.
    assert np.mean(list(shares.values())) < 2**-16 * math.sqrt(max(layer.weight[0].numel() for layer in shares))


@pytest.fixture(scope="module")
def text():
    """Small letters, where the network's last digits show most."""
    page = Image.new("RGB", (48, 32), "white")
    draw = ImageDraw.Draw(page)
    for row, colour in enumerate(("black", (200, 0, 30), "black")):
        draw.text((1, 11 * row - 2), "quick brown fox", fill=colour)
    return np.asarray(page)


@pytest.mark.parametrize(("what", "rate"), [("picture", 0.1), ("detail", 1.0), ("text", 1.0)])
def test_files_say_so_and_every_reader_shows_nearly_the_same(photo, what, rate, request, monkeypatch):
    """Readers are apart as independent roundings of one network are, at most; what is shown, as follows from that."""
    original = request.getfixturevalue(what)
    monkeypatch.setattr(encoder, "has_fast_bf16", lambda device: True)
    [file] = photo.encode([original], Target(bits_per_dim=rate))
    assert inspect(file.data).header.mode == "lossy, bf16"
    unrounded = []
    monkeypatch.setattr(reconstruct, "to_levels", lambda x: unrounded.append(x) or to_levels(x))

    def read(data, arithmetic):
        monkeypatch.setattr(local, "Rounded", arithmetic)
        shown = photo.decode([data])[0]
        return shown, ((unrounded[-1][0].permute(1, 2, 0) + 1) * 127.5).clamp(0, 255).double().numpy()

    for data, readers in ((file.data, list(READERS)), (file.data[: len(file.data) // 2], ["native", "in float32"])):
        shown, means = zip(*(read(data, READERS[name]) for name in readers))
        assert 0 < shown[0].steps <= inspect(file.data).header.steps
        assert all(s.complete == (data == file.data) for s in shown)
        without = read(data, lambda device: Plain())[1]
        price = max(rms(mean, without) for mean in means)
        for i, j in itertools.combinations(range(len(readers)), 2):
            apart = rms(means[i], means[j])
            assert apart <= min(math.sqrt(2) * price, APART)
            a, b = shown[i].array.astype(int), shown[j].array.astype(int)
            share = (a != b).mean()
            assert share <= apart
            assert np.abs(a - b).max() <= (2 if what == "text" else 1)
            assert what == "text" or share < 0.05
            # A value that is shown a level higher or lower changes its squared error by twice its error, either way.
            errors = rms(a, original)
            chance = 2 * errors * math.sqrt(share / a.size)
            assert abs(rms(b, original) ** 2 - errors**2) <= apart**2 + 5 * chance


@pytest.mark.parametrize(("fast", "options"), [(False, {}), (True, {"fp32": True})])
def test_other_files_are_made_in_float32(photo, picture, monkeypatch, fast, options):
    monkeypatch.setattr(encoder, "has_fast_bf16", lambda device: fast)
    monkeypatch.setattr(local, "Rounded", None)
    [file] = photo.encode([picture[:24, :32]], Target(bits_per_dim=0.1), **options)
    assert inspect(file.data).header.mode == "lossy"
    assert photo.decode([file.data])[0].complete


def test_lossless_files_are_made_in_float32(photo, picture, monkeypatch):
    monkeypatch.setattr(encoder, "has_fast_bf16", lambda device: True)
    monkeypatch.setattr(local, "Rounded", None)
    [file] = photo.encode([picture[:16, :16]], Target(lossless=True), store=False)
    assert np.array_equal(photo.decode([file.data])[0].array, picture[:16, :16])


def test_models_that_do_not_know_it_refuse_it(codec, monkeypatch):
    """Also where the header's own checksum is right."""
    monkeypatch.setattr(encoder, "has_fast_bf16", lambda device: True)
    [file] = codec.encode([np.full((16, 16, 3), 90, np.uint8)], Target(bits_per_dim=0.5), store=False)
    info = inspect(file.data)
    assert info.header.mode == "lossy"
    header = dataclasses.replace(info.header, mode="lossy, bf16").pack(16)
    payload = file.data[info.header_bytes : -2]
    with pytest.raises(DamagedFile, match="arithmetic"):
        decode(header + payload + checksum(header, payload, codec.model.fingerprint))
    assert Header.unpack(header, lambda byte: 16)[0].bf16


@pytest.mark.parametrize("native", [True, False])
def test_strips_give_nearly_what_the_whole_gives(monkeypatch, native):
    """To less than bfloat16 itself makes of it; the cuts only change the order of sums."""
    model, z = load_model("photo"), torch.randn(1, 3, 72, 40, generator=torch.Generator().manual_seed(0))
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


def test_exact_leaves_maps_as_they_are():
    x = torch.randn(1, 4, 4, 3)
    assert Plain().round(x) is x
