"""The progressive code: the chain with something sent for each step. ``encode`` and ``follow`` are its two sides."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch

from codec.channel.simulation import CHUNK, Channel, TrellisChannel
from ddpm.diffusion.gaussian import kl_nats
from ddpm.diffusion.likelihood import LN2, to_levels, to_unit

from .chain import Chain, Prediction
from .plan import Allotment
from .reconstruct import reconstruct, shown
from .setting import Setting

Progress = Callable[[int], object]


class Spending(Protocol):
    """Who decides, step by step, how many bits an image gets; see ratecontrol.py."""

    steps: int  # after so many it ends; may change as the chain goes on

    def bits(self, step: int, kl: float) -> int:
        """The bits for a step whose KL along this very chain is ``kl`` bits; asked once for each step, in order."""
        ...


@dataclass
class Stream:
    """What the encoder made of one image."""

    messages: list[np.ndarray] = field(default_factory=list)  # of each step, uint8 of 0 and 1
    kl: list[float] = field(default_factory=list)  # bits, of each step along the chain that was sent
    mse: list[float] = field(default_factory=list)  # of `mean` before each step and at the end, in squared grey values
    z: torch.Tensor | None = None  # (3, H, W) pixels where the chain ended, as every decoder will have them

    @property
    def bits(self) -> np.ndarray:
        """The messages one after the other, uint8 of 0 and 1."""
        return np.concatenate([np.zeros(0, np.uint8), *self.messages])

    def trim(self, fits: Callable[[int, int], bool]) -> None:
        """Drop the last steps until ``fits`` of the number of steps and of their bits."""
        while self.messages and not fits(len(self.messages), sum(map(len, self.messages))):
            for of_steps in (self.messages, self.kl, self.mse):
                of_steps.pop()


def kl_bits(delta: torch.Tensor, r: torch.Tensor) -> torch.Tensor:
    """KL(q || p) of one image and step in bits, float64; delta, r (n,)."""
    nats = (kl_nats(d**2, r).double().sum() for d, r in zip(delta.split(CHUNK), r.split(CHUNK)))
    return sum(nats, start=delta.new_zeros(())) / LN2


def squared_error(shown: torch.Tensor, picture: torch.Tensor) -> torch.Tensor:
    """Sum of (n,) squared differences of uint8 tensors, int64: exact, in whatever order they are added."""
    parts = zip(shown.flatten().split(CHUNK), picture.flatten().split(CHUNK))
    return sum((a.int().sub_(b.int()).square_().sum() for a, b in parts), start=shown.new_zeros(()))


class Encoding:
    """Images on their way down the chain together; each leaves it where its spending or its error says so."""

    def __init__(
        self,
        setting: Setting,
        pictures: torch.Tensor,
        spending: Sequence[Spending],
        mse: Sequence[float | None],
    ):
        self.pictures, self.spending, self.wanted = pictures.to(setting.model.device), spending, mse
        self.chain, self.streams = Chain(setting, len(pictures)), [Stream() for _ in pictures]
        self.x = self.chain.coordinates(to_unit(self.pictures))
        self.active = list(range(len(pictures)))
        self.satisfied = [setting.plan.steps] * len(pictures)  # where an image is as close as is asked

    def ended(self, i: int) -> bool:
        return self.chain.k == min(self.spending[i].steps, self.satisfied[i])

    def evaluate(self, x_hat: Iterable[torch.Tensor]) -> None:
        """Note how far the pictures of the active images are from what they should be."""
        shown = (to_levels(self.chain.picture(x[None])[0]) for x in x_hat)
        errors = [squared_error(s, self.pictures[i]) for i, s in zip(self.active, shown)]
        for i, error in zip(self.active, torch.stack(errors).tolist()):
            self.streams[i].mse.append(error / self.pictures[i].numel())
            wanted = self.wanted[i]
            if wanted is not None and self.streams[i].mse[-1] <= wanted:
                self.satisfied[i] = self.chain.k

    def predict(self) -> Prediction | None:
        """The next step of the images that go on; None if none does."""
        if all(map(self.ended, self.active)):
            self.evaluate(self.chain.mean())
            for i, z in zip(self.active, self.chain.seen()):
                self.streams[i].z = z
            return None
        p = self.chain.predict()
        as_mean = [self.wanted[i] is not None or self.ended(i) for i in self.active]
        if any(as_mean):
            mean = self.chain.mean(p.x_hat)
            self.evaluate([m if of_mean else x_hat for of_mean, m, x_hat in zip(as_mean, mean, p.x_hat)])
        else:
            self.evaluate(p.x_hat)
        rest = [j for j, i in enumerate(self.active) if not self.ended(i)]
        if not rest:
            return None
        if len(rest) < len(self.active):
            self.active = [self.active[j] for j in rest]
            self.chain.keep(rest)
            p = p.of(rest)
        return p

    def step(self, p: Prediction, channel: Channel) -> None:
        """Send the step that is predicted."""
        chain, members = self.chain, [self.streams[i] for i in self.active]
        delta = chain.delta(p, self.x if len(members) == len(self.x) else self.x[self.active])

        def bits():
            return [self.spending[i].bits(chain.k, stream.kl[-1]) for i, stream in zip(self.active, members)]

        def zeta():
            for stream, kl in zip(members, torch.stack([kl_bits(d, r) for d, r in zip(delta, p.r)]).tolist()):
                stream.kl.append(kl)
            use: Any = channel.use(chain.key, p.r.shape[1], chain.device)
            sent = use.encode(delta, p.r, bits)
            if channel.writes:
                for stream, message in zip(members, sent):
                    stream.messages.append(message)
            return use.decode(sent)

        chain.advance(p, zeta)


@torch.inference_mode()
def encode(
    setting: Setting,
    pictures: torch.Tensor,
    spending: Sequence[Spending],
    *,
    channel: type[Channel] = TrellisChannel,
    mse: Sequence[float | None] | None = None,
    progress: Progress | None = None,
) -> list[Stream]:
    """Send B images, ``pictures`` (B, 3, H, W) uint8, image i with the bits that ``spending[i]`` gives each step.

    Where ``mse`` has a number (squared grey values) an image ends as soon as its ``mean`` picture is so close. With an
    ideal channel z_s is drawn from q itself, and there are no messages.
    """
    encoding = Encoding(setting, pictures, spending, mse or [None] * len(pictures))
    simulated = channel(setting.tables.memory, setting.seed)
    while encoding.active and (p := encoding.predict()) is not None:
        encoding.step(p, simulated)
        del p  # the next prediction needs the room
        if progress:
            progress(1)
    return encoding.streams


@torch.inference_mode()
def decode(
    setting: Setting,
    bits: Sequence[np.ndarray],
    allotments: Sequence[Allotment],
    steps: int,
    progress: Progress | None = None,
) -> Chain:
    """Where B payloads, whole or cut, lead the chain; all images go ``steps`` steps (``Allotment.reach``)."""
    chain = Chain(setting, len(bits))
    for _ in follow(chain, bits, allotments, steps):
        if progress:
            progress(1)
    return chain


@torch.inference_mode()
def stages(setting: Setting, bits: np.ndarray, allotment: Allotment, steps: int) -> Iterator[np.ndarray]:
    """The ``mean`` picture (H, W, 3) after 0, 1, ..., ``steps`` steps of one payload, in one pass."""
    chain = Chain(setting, 1)
    for p in follow(chain, [bits], [allotment], steps):
        yield shown(chain, chain.mean(p.x_hat))[0]
    yield shown(chain, reconstruct(chain, "mean"))[0]


def follow(
    chain: Chain, bits: Sequence[np.ndarray], allotments: Sequence[Allotment], steps: int
) -> Iterator[Prediction]:
    """Move the chain as the payloads say, until ``steps``; yields each step's prediction before it is taken."""
    channel, position = TrellisChannel(chain.setting.tables.memory), [0] * len(bits)
    while chain.k < steps:
        p = chain.predict()
        yield p
        sizes = [a.sizes[chain.k] for a in allotments]
        received = [b[i : i + n] for b, i, n in zip(bits, position, sizes)]

        def zeta(n=p.r.shape[1], received=received, sizes=sizes):
            return channel.use(chain.key, n, chain.device).decode(received, sizes)

        chain.advance(p, zeta)
        position = [i + n for i, n in zip(position, sizes)]
        del p  # the next prediction needs the room
