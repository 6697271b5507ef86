"""The channel that each step of the chain uses: the encoder hands in delta and r, both sides get zeta.

q is N(delta / sqrt(1 + r), 1 / (1 + r)) in units of p, whose zeta is N(0, 1). ``TrellisChannel`` writes messages, of
which any beginning can be read; ``IdealChannel`` draws from q itself and writes nothing: the limit that the other is
measured by. A use of a channel is named by its key, seed and number of the step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import repeat

import numpy as np
import torch

from codec.randomness.interleave import Scramble, scramble
from codec.randomness.streams import shared_noise
from ddpm.exact.roots import sqrt_
from ddpm.machine import all_threads, cpu_count

from . import message
from .trellis import Trellis

CHUNK = 1 << 20  # coordinates; arithmetic that takes many times its room is done on so many at once
Key = tuple[int, int]


class TrellisChannel:
    """Messages of a trellis; nothing is drawn that others would not know.

    memory: bits of the trellis' register, at most. seed: of the randomness that only the encoder has, if there is any.
    """

    writes = True  # messages, that others can read

    def __init__(self, memory: int, seed: int = 0):
        self.memory = memory

    def use(self, key: Key, n: int, device: torch.device) -> TrellisUse:
        """For one step of n coordinates."""
        return TrellisUse(self, key, n, device)

    @cached_property
    def pool(self) -> ThreadPoolExecutor:
        """Threads of OpenMP beyond the cores, of teams that each of ours would have, slow down all the others."""
        return ThreadPoolExecutor(cpu_count(), initializer=torch.set_num_threads, initargs=(1,))


class TrellisUse:
    """For B images of n coordinates; ``encode`` and ``decode`` give both sides the same zeta.

    What is sent are messages, (bits,) uint8 of 0 and 1 each.
    """

    def __init__(self, channel: TrellisChannel, key: Key, n: int, device: torch.device):
        self.channel, self.key, self.n = channel, key, n
        self.scrambled = scramble(*key, n, device)

    def trellis(self, bits: int) -> Trellis:
        return Trellis(self.n, bits, self.channel.memory)

    def encode(self, delta: torch.Tensor, r: torch.Tensor, bits: Callable[[], Sequence[int]]) -> list[np.ndarray]:
        """What is sent of each image; delta, r (B, n), of which delta is used up.

        ``bits`` says how many each may have; it is asked once, and only where messages are written.
        """
        codes = [self.trellis(n) for n in bits()]
        a = delta.mul_(sqrt_(1 + r))
        if len(codes) == 1:
            return [encode_one(a[0], r[0], codes[0], self.scrambled)]
        with all_threads():
            return list(self.channel.pool.map(encode_one, a, r, codes, repeat(self.scrambled)))

    def decode(self, sent: Sequence[np.ndarray], bits: Sequence[int] | None = None) -> torch.Tensor:
        """zeta (B, n). ``bits``: of the messages before they were cut; without, all are whole."""
        order, _ = self.scrambled
        zeta = torch.empty(len(sent), self.n, device=order.device)
        for received, size, row in zip(sent, map(len, sent) if bits is None else bits, zeta):
            decode_one(received, self.trellis(size), self.scrambled, self.key, row)
        return zeta


class IdealChannel:
    """True samples of q, by a generator of its own, in any number of uses; what is sent is zeta itself."""

    writes = False

    def __init__(self, memory: int, seed: int = 0):
        self.generator = torch.Generator().manual_seed(seed)

    def use(self, key: Key, n: int, device: torch.device) -> IdealChannel:
        return self

    def encode(self, delta: torch.Tensor, r: torch.Tensor, bits: Callable[[], Sequence[int]]) -> torch.Tensor:
        noise = torch.randn(delta.shape, generator=self.generator).to(delta.device)
        return (delta + noise) / sqrt_(1 + r)

    def decode(self, sent: torch.Tensor) -> torch.Tensor:
        return sent


Channel = TrellisChannel | IdealChannel
CHANNELS: dict[str, type[Channel]] = {"trellis": TrellisChannel, "ideal": IdealChannel}


@dataclass(frozen=True)
class Scrambled:
    """``factors`` times ``values`` in another order, (n,); made a slice at a time."""

    values: torch.Tensor
    order: torch.Tensor
    factors: torch.Tensor

    def __getitem__(self, part: slice) -> torch.Tensor:
        return self.values.index_select(0, self.order[part]).mul_(self.factors[part])


def encode_one(a: torch.Tensor, r: torch.Tensor, code: Trellis, scrambled: Scramble) -> np.ndarray:
    """The message for one image, whose log q/p is a zeta - r/2 zeta^2; a, r (n,)."""
    order, signs = (t.to(a.device) for t in scrambled)
    return message.encode(code, Scrambled(a, order, signs), Scrambled(r, order, r.new_tensor(-0.5).expand(r.shape)))


def decode_one(received: np.ndarray, code: Trellis, scrambled: Scramble, key: Key, out: torch.Tensor) -> None:
    """zeta of one image into ``out`` (n,); where the message does not reach, shared noise named by ``key``."""
    order, signs = scrambled
    whole = len(received) == code.bits > 0
    rest = out.new_zeros(1).expand(code.dims) if whole else shared_noise(*key, code.dims).to(out.device)
    mixed = message.decode(code, received, rest).mul_(signs)
    for places, values in zip(order.split(CHUNK), mixed.split(CHUNK)):  # places become int64 on the way
        out[places] = values
