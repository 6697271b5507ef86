"""The exact network gives what reference.py does, to the last bit: by all kinds of convolution, with any number of
threads, whole or in strips, with oneDNN or without."""

from copy import deepcopy
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ddpm.exact import convolution, kernels, local
from ddpm.exact.convolution import Float32, Int8
from ddpm.exact.local import ExactLocalNet
from ddpm.models.load import load_model
from ddpm.models.store import integers_of, shipped_models

from .models import CONFIGS, FINE, LEVELS, random_tensors, random_z
from .reference import Reference, check, reference

GENTLE = 63  # weights with which sums of pairs of products fit 16 bits, so that any processor's Int8 is exact


@cache
def largest_weight(kind: type) -> int:
    """With which a kind of convolution is exact here; 0 if there is none of that kind."""
    if convolution.is_exact(kind):
        return 127
    with pytest.MonkeyPatch.context() as patch:
        probes = [(u, (w // 2).clamp(-GENTLE, GENTLE).to(torch.int8), zero) for u, w, zero in convolution.probes()]
        patch.setattr(convolution, "probes", lambda: probes)
        return GENTLE if convolution.is_exact(kind) else 0


@pytest.fixture(scope="module", params=[Int8, Float32])
def kind(request):
    if not largest_weight(request.param):
        assert request.param is Int8
        pytest.skip("this machine's libraries have no convolution of bytes")
    return request.param


@cache
def made(config, seed, kind, even=False):
    """The same network for pictures of different sizes, as it is used."""
    tensors = random_tensors(config, seed, largest_weight(kind), even)
    return tensors, ExactLocalNet(config, tensors, kind)


@settings(deadline=None, max_examples=60)
@given(
    st.tuples(st.integers(1, 3), st.integers(1, 40), st.integers(1, 9)),
    st.sampled_from([1, 3, 8, 60, 64]),
    st.sampled_from([1, 8, 24, 48]),
    st.sampled_from(convolution.SHAPES),
    st.sampled_from([0, 48, 128]),
    st.integers(0, 2**32 - 1),
)
@example((1, 31, 3), 24, 16, (2, 2, (0, 0)), 128, 0)
@example((2, 31, 2), 12, 8, (3, 2, (1, 1)), 128, 0)
def test_convolutions_of_bytes_give_what_those_of_floats_do(shape, inputs, outputs, of_kernel, zero, seed):
    """One of them is used for maps of many sizes."""
    if not (most := largest_weight(Int8)):
        pytest.skip("this machine's libraries have no convolution of bytes")
    (size, stride, padding), generator = of_kernel, torch.Generator().manual_seed(seed)
    weight = torch.randint(-most, most + 1, (outputs, inputs, size, size), generator=generator, dtype=torch.int8)
    of_bytes, of_floats = (kind(weight, zero, stride) for kind in (Int8, Float32))
    for height, width in (shape[1:], (max(size, shape[1] // 2), shape[2] + 2)):
        if height + 2 * padding[0] < size or width + 2 * padding[1] < size:
            continue
        u = torch.randint(0, 256, (shape[0], height, width, inputs), generator=generator, dtype=torch.uint8)
        assert torch.equal(of_bytes(u, padding), of_floats(u.float() - zero, padding))


def test_networks_can_be_copied(kind):
    _, net = made(CONFIGS[0], 0, kind)
    z = random_z((1, 3, 16, 16), 0)
    assert same(said(net, z, 0), said(deepcopy(net), z, 0))


def said(net: ExactLocalNet, z: np.ndarray, level: int) -> list[np.ndarray]:
    with torch.inference_mode():
        return [h.numpy() for h in net(torch.from_numpy(z), level)]


def expected(net: ExactLocalNet, tensors, z: np.ndarray, level: int) -> list[np.ndarray]:
    return [np.stack(h) for h in zip(*(reference(net.config, tensors, one, level) for one in z))]


def same(found, wanted) -> bool:
    """To the last bit."""
    return all(a.dtype == b.dtype == np.float32 and np.array_equal(a, b) for a, b in zip(found, wanted, strict=True))


class Watched(Reference):
    """Keeps what blocks make, and what their convolutions read with the limits of it."""

    def __init__(self, *args):
        super().__init__(*args)
        self.maps, self.read = [], []

    def block(self, name, x):
        self.maps.append(super().block(name, x))
        return self.maps[-1]

    def conv(self, name, v):
        zero = int(self.tensors[name + ".zero"][0])
        self.read.append((v, -zero, (65535 if zero == FINE else 255) - zero))
        return super().conv(name, v)


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("even", [False, True])
def test_random_models_use_the_range_of_their_integers(config, even):
    """Else tests with them would say little."""
    seen = Watched(config, random_tensors(config, 0, even=even), 0)
    h = np.concatenate(seen(random_z((3, 16, 24), 0)))
    assert 0.3 < h.std() < 30
    for x in seen.maps:
        assert x.std() > 2000
        assert (np.abs(x) >= 32767).mean() < 0.2
    for v, least, most in seen.read:
        assert v.std() > 20
        assert ((v >= least) & (v <= most)).mean() > 0.3


def test_random_models_read_8_bits_and_16():
    zeros = {int(v[0]) for s in range(4) for name, v in random_tensors(CONFIGS[0], s).items() if name.endswith(".zero")}
    assert FINE in zeros
    assert len(zeros) > 3


@settings(deadline=None, max_examples=25)
@given(
    config=st.sampled_from(CONFIGS),
    seed=st.integers(0, 5),
    even=st.booleans(),
    level=st.integers(0, LEVELS - 1),
    size=st.tuples(st.integers(1, 2), st.integers(1, 3), st.integers(1, 4)),
    octave=st.floats(-8, 4),
    grain=st.sampled_from([0.0, 2.0**-13, 2.0**-17]),  # the last two have ties where z is read
)
@example(config=CONFIGS[0], seed=0, even=False, level=1, size=(1, 2, 3), octave=125.0, grain=0.0)  # beyond float32
def test_the_network_gives_what_the_reference_does(kind, config, seed, even, level, size, octave, grain):
    batch, height, width = size
    z = random_z((batch, 3, height * config.stride, width * config.stride), seed, 2.0**octave, grain)
    tensors, net = made(config, seed, kind, even)
    with np.errstate(over="ignore"):
        assert same(said(net, z, level), expected(net, tensors, z, level))


@pytest.mark.parametrize("seed", [0, 1])
def test_on_large_pictures_no_last_digit_differs(kind, seed):
    """One of a scale turns one rounding in thousands."""
    z, (tensors, net) = random_z((1, 3, 96, 128), seed), made(CONFIGS[0], seed, kind)
    assert same(said(net, z, 0), expected(net, tensors, z, 0))


@settings(deadline=None, max_examples=15)
@given(value=st.floats(width=32, allow_nan=False), colour=st.integers(0, 2), level=st.integers(0, LEVELS - 1))
@example(value=float("inf"), colour=0, level=0)
@example(value=-3.4028234663852886e38, colour=2, level=0)
def test_any_value_of_z_is_read(kind, value, colour, level):
    tensors, net = made(CONFIGS[2], 1, kind)
    z = random_z((1, 3, 4, 6), 1)
    z[:, colour] = value
    with np.errstate(over="ignore"):
        assert same(said(net, z, level), expected(net, tensors, z, level))


@pytest.fixture
def threads(monkeypatch):
    """A function that sets how many there are, also for small pictures."""
    before = torch.get_num_threads()
    monkeypatch.setattr(kernels, "FEW", 16)
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize("onednn", [True, False])
@pytest.mark.parametrize("batch", [1, 16])
def test_threads_and_libraries_change_nothing(kind, threads, onednn, batch, monkeypatch):
    """Of 16 pictures torch takes other algorithms than of fewer."""
    if kind is Int8 and not onednn:
        pytest.skip("it is oneDNN's")
    monkeypatch.setattr(torch.backends.mkldnn, "enabled", onednn)
    z, (tensors, net) = random_z((batch, 3, 8, 8), batch), made(CONFIGS[0], 2, kind)
    wanted = expected(net, tensors, z, 2)
    for n in (1, 2):
        threads(n)
        assert same(said(net, z, 2), wanted)


@pytest.mark.parametrize(
    ("config", "size", "strip", "n"),
    [
        (0, (24, 16), 16, 1),  # so few rows that coarser maps begin later
        (0, (32, 16), 256, 2),
        (1, (8, 40), 16, 1),
        (1, (16, 64), 64, 1),
        (1, (72, 24), 512, 1),
    ],
)
def test_strips_give_what_the_whole_gives(kind, threads, config, size, strip, n, monkeypatch):
    threads(n)
    z, (_, net) = random_z((2, 3, *size), 3), made(CONFIGS[config], 3, kind)
    whole = said(net, z, 1)
    monkeypatch.setattr(local, "WHOLE", strip)
    monkeypatch.setattr(local, "STRIP", strip)
    assert same(said(net, z, 1), whole)


def test_strips_give_what_the_reference_does(kind, monkeypatch):
    z, (tensors, net) = random_z((1, 3, 40, 16), 4), made(CONFIGS[1], 4, kind)
    monkeypatch.setattr(local, "WHOLE", 64)
    monkeypatch.setattr(local, "STRIP", 64)
    assert same(said(net, z, 0), expected(net, tensors, z, 0))


class OffByOne(Float32):
    def __call__(self, x, padding):
        return super().__call__(x, padding) + 1


def test_a_model_is_checked_by_the_reference_s_answers(monkeypatch):
    """Kinds of convolution that give others are not taken, and without one that does not there is no network."""
    config, tensors = CONFIGS[0], random_tensors(CONFIGS[0], 0)
    model = tensors | {"check": np.array([check(config, tensors)], np.uint32)}
    z = random_z((1, 3, 8, 8), 0)
    monkeypatch.setattr(local, "fastest", lambda: OffByOne)
    assert same(said(local.checked(config, model), z, 0), expected(ExactLocalNet(config, tensors), tensors, z, 0))
    monkeypatch.setattr(local, "Float32", OffByOne)
    with pytest.raises(ArithmeticError):
        local.checked(config, model)


@pytest.mark.parametrize("name", [name for name, path in shipped_models().items() if integers_of(path)])
def test_the_reference_answers_as_released_models_were_checked(name):
    net = load_model(name).exact
    assert check(net.config, net.tensors) == int(net.tensors["check"][0])
