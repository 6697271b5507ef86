"""Channels to simulate: random directions of delta, and those that the chain of a real picture asks for."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from codec import Codec, Target
from codec.lossy.chain import Chain, Prediction
from codec.lossy.progressive import follow
from codec.randomness.interleave import scramble
from ddpm.diffusion.gaussian import kl_nats
from ddpm.diffusion.likelihood import LN2, to_unit
from ddpm.images.batches import stacked


@dataclass(frozen=True, eq=False)
class Case:
    """One channel to simulate: delta, r and E delta^2 (a number or (D,)), of which the encoder alone knows delta."""

    delta: np.ndarray
    r: np.ndarray
    v: np.ndarray | float

    @property
    def kl(self) -> float:
        """KL(q || p) in bits."""
        return float(kl_nats(self.delta.astype(np.float64) ** 2, self.r.astype(np.float64)).sum()) / LN2

    @property
    def bits(self) -> int:
        """Of a message with a bit for each bit of KL."""
        return max(round(self.kl), 1)

    def scrambled(self, seed: int, step: int) -> Case:
        """Permuted and with random signs, as the codec does; r, which here is E delta^2, along with it."""
        order, signs = (t.numpy() for t in scramble(seed, step, len(self.delta)))
        r = self.r[order]
        return Case(self.delta[order] * signs, r, r)


def directions(dims: int, kl: float, draws: int) -> list[Case]:
    """Random directions of a delta whose KL is so many bits at r = 0."""
    length = math.sqrt(2 * LN2 * kl)
    deltas = torch.randn(draws, dims, generator=torch.Generator().manual_seed(0))
    deltas *= length / deltas.norm(dim=1, keepdim=True)
    return [Case(delta, np.zeros(dims, np.float32), length**2 / dims) for delta in deltas.numpy()]


def followed(codec: Codec, data: bytes) -> tuple[Chain, Iterator[Prediction]]:
    """The chain of a file, and the predictions of its steps, each before it is taken."""
    file = codec.open(data)
    chain = Chain(codec.setting_of(file.info.header), 1)
    return chain, follow(chain, [file.bits], [file.allotment], file.info.steps)


@torch.inference_mode()
def walk(codec: Codec, picture: np.ndarray) -> list[Case]:
    """The channel of each step of a picture (H, W, 3) uint8, coded whole with the trellis; see ``Chain.delta``."""
    [coded] = codec.encode([picture], Target(steps=codec.plan(*picture.shape[:2], False).steps))
    (chain, predictions), cases = followed(codec, coded.data), []
    x = to_unit(stacked([picture])).to(codec.model.device)
    for p in predictions:
        delta, r = (t[0].cpu().numpy().astype(np.float32) for t in (chain.delta(p, x), p.r))
        cases.append(Case(delta, r, r))
    return cases
