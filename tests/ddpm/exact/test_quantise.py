"""A float network made exact says nearly the same, by all that it is made of; weights are rounded well."""

from functools import cache

import numpy as np
import pytest
import torch

from ddpm.exact.convolution import LIMIT, Float32
from ddpm.exact.local import ExactLocalNet
from ddpm.exact.quantise import Quantiser, fit_weight
from ddpm.exact.rounding import rounded, scales_of, sums_fit
from ddpm.networks.local import LocalConfig, LocalNet

LEVELS = ((4.0, 1.0), (0.0, 0.7), (-4.0, 0.5))  # gamma, and the standard deviation of z
NEAR = 0.04  # relative error of an answer
BLOCKS = [f"levels.{name}.0" for name in ("down", "coarser.down", "coarser.up", "up")]
SHIFTS = [f"{name}.{part}shift" for name in BLOCKS for part in ("", "conv1.", "conv2.")]
SHIFTS += ["first.shift", "levels.shrink.shift", "last.shift"]


@cache
def network() -> LocalNet:
    """With random weights and biases that all do something."""
    torch.manual_seed(0)
    net = LocalNet(LocalConfig(widths=(8, 16), down=(1, 1), up=(1, 1))).eval().requires_grad_(False)
    for p in net.parameters():
        if not p.any():
            torch.nn.init.normal_(p, std=0.15)
        if p.ndim == 1:
            p.mul_(2)
    return net


def z_of(std: float, seed: int) -> torch.Tensor:
    return std * torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(seed))


def unit_variance(std: float) -> torch.Tensor:
    return torch.full((1, 1, 1, 1), 1 / std)


@cache
def quantised(fine: tuple[str, ...] | None = None) -> dict[str, np.ndarray]:
    with torch.inference_mode():
        quantiser = Quantiser(network(), fine)
        for i, (gamma, std) in enumerate(LEVELS):
            quantiser.observe(gamma, [z_of(std, i), z_of(std, 10 + i)], unit_variance(std))
        return quantiser.tensors()


def error(tensors: dict[str, np.ndarray]) -> float:
    """Relative, of h_eps or h_m, at the worst level, of z that was not observed."""
    net, found = ExactLocalNet(network().config, tensors, Float32), []
    with torch.inference_mode():
        for i, (gamma, std) in enumerate(LEVELS):
            z = z_of(std, 100 + i)
            floats = network()(z, torch.full((2,), gamma), unit_variance(std))
            found += [float((a - b).square().mean() / b.square().mean()) for a, b in zip(net(z, i), floats)]
    return max(found) ** 0.5


def test_the_exact_network_says_nearly_what_the_float_network_says():
    assert 0 < error(quantised()) < NEAR


def test_sixteen_bits_err_less_than_eight():
    assert error(quantised()) < error(quantised(())) < NEAR


def test_what_reads_sixteen_bits_is_as_told():
    zeros = {name: int(v[0]) for name, v in quantised().items() if name.endswith(".zero")}
    assert {name for name, zero in zeros.items() if zero == 1 << 15} == {n for n in zeros if "coarser" not in n}
    assert all(int(v[0]) < 256 for name, v in quantised(()).items() if name.endswith(".zero"))


@pytest.mark.parametrize("name", SHIFTS)
def test_without_a_shift_it_does_not(name):
    tensors = quantised()
    assert error(tensors | {name: np.zeros_like(tensors[name])}) > NEAR


def without_waves(tensors):
    weight = tensors["first.weight"].copy()
    weight[:, [i for i in range(weight.shape[1]) if i % 15 >= 3]] = 0
    return {"first.weight": weight}


def without_the_rest_of_weights(tensors):
    return {
        name: np.where(np.arange(len(w))[:, None, None, None] < len(w) // 2, w, 0).astype(np.int8)
        for name in ("first.weight", "last.weight")
        for w in [tensors[name]]
    }


def with_the_scale_of_one_level(tensors):
    return {name: v[[0, 0, 0]] for name, v in tensors.items() if name.endswith(".scale")}


def with_the_norm_of_one_level(tensors):
    return {name: v[[0, 0, 0]] for name, v in tensors.items() if name.endswith(".gain") and v.ndim == 2}


def without_factors(tensors):
    return {name: np.ones_like(v) for name, v in tensors.items() if name.endswith(".rate")}


def with_smaller_units(tensors):
    return {"levels.up.0.conv2.unit": tensors["levels.up.0.conv2.unit"] * np.float32(0.9)}


@pytest.mark.parametrize(
    "change",
    [
        without_waves,
        without_the_rest_of_weights,
        with_the_scale_of_one_level,
        with_the_norm_of_one_level,
        without_factors,
        with_smaller_units,
    ],
)
def test_without_another_part_it_does_not(change):
    tensors = quantised()
    assert error(tensors | change(tensors)) > NEAR


def test_weights_of_the_first_convolution_are_the_float_network_s():
    """To 13 bits, in one unit, that of the maps: of z as 16 bits, and of waves of amplitude 127."""
    tensors, weight = quantised(), network().first.weight.numpy()
    high, rest = np.split(tensors["first.weight"].astype(int), 2)
    found = (128 * high + rest) * tensors["first.gain"].astype(float)[:, None, None, None]
    found *= np.where(np.arange(60) % 15 < 3, 4096, 256 * 127)[:, None, None]
    unit = (weight * weight).sum() / (weight * found).sum()
    assert np.abs(found * unit - weight).max() < 1e-3 * np.abs(weight).max()


def largest_sum(weight: np.ndarray, least: int, most: int) -> int:
    """Of products with any inputs from least to most, in size, over all outputs."""
    w = weight.astype(np.int64).reshape(len(weight), -1)
    return int(max(np.abs(np.where(w > 0, w * a, w * b).sum(1)).max() for a, b in ((least, most), (most, least))))


@pytest.mark.parametrize("fine", [None, ()], ids=["16 bits", "8 bits"])
def test_no_sum_that_can_occur_reaches_the_limit(fine):
    tensors = quantised(fine)
    for name, weight in tensors.items():
        if not name.endswith(".weight"):
            continue
        zero = int(tensors.get(name.replace(".weight", ".zero"), [1 << 15])[0])
        halved = zero == 1 << 15
        assert largest_sum(weight, *((-128, 127) if halved else (-zero, 255 - zero))) < LIMIT
        assert not halved or largest_sum(weight, 0, 255) < LIMIT


@pytest.mark.parametrize("zero", [0, 24])
def test_weights_whose_sums_would_be_too_large_get_larger_units(zero):
    generator = torch.Generator().manual_seed(0)
    inputs = 64
    weight = torch.randn(3, inputs, 3, 3, generator=generator)
    weight[0] = weight[0].sign()  # all as large as the largest
    moments, second = torch.ones(inputs), torch.eye(9 * inputs)
    unit = scales_of(weight, moments)
    assert sums_fit(rounded(weight, unit, second), zero).tolist() == [False, True, True]
    q, found = fit_weight(weight, moments, second, zero)
    assert sums_fit(q, zero).all()
    assert largest_sum(q.numpy(), -zero, 255 - zero) < LIMIT
    assert (found > unit).tolist() == [True, False, False]
    assert (q * found[:, None, None, None] - weight).square().mean() < 1e-3


@pytest.mark.parametrize("seed", range(4))
def test_weights_that_make_up_for_each_other_err_half_as_much(seed):
    """In what a convolution gives when what it reads is correlated."""
    generator = torch.Generator().manual_seed(seed)
    weight, mixed = (torch.randn(shape, generator=generator) for shape in ((8, 12, 3, 3), (108, 108)))
    read = torch.randn(500, 108, generator=generator) * torch.logspace(0, -2, 108) @ mixed
    second = read.T @ read / len(read)
    unit = scales_of(weight, second.diagonal().view(12, 9).mean(1))

    def squared(q: torch.Tensor) -> float:
        left = (weight - q.float() * unit[:, None, None, None]).flatten(1)
        return float(((left @ second) * left).sum())

    q, plain = rounded(weight, unit, second), (weight / unit[:, None, None, None]).round().clamp(-127, 127)
    assert torch.equal(q, q.round())
    assert int(q.abs().max()) <= 127
    assert squared(q) < squared(plain) / 2
