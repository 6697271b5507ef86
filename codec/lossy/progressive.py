"""The progressive code: from shared noise along z_s ~ p(z_s | z_t), each step steered by a message.

The first step sends z_T itself, z_T ~ q(z_T | x) under what is known of all pictures: a noise that knows nothing of x
would show the network a wrong mean colour, and correcting that later costs several times more.

``Chain`` is what encoder and decoder share: the state z, the prediction of the next step, and the move to its mean and
on. The encoder looks at x to choose each message; the decoder reads it. Everything else is the same code on both sides.

Steps are coded in the coordinates of basis.py. Of a grey image only those along grey are; along the other colours z
holds the noise that q(z_s | z_t, x = 0) gives it, drawn from shared randomness, so that costs nothing and the network
sees colour images as it was trained to.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import repeat
from typing import Protocol

import numpy as np
import torch

from codec.channel import trellis
from codec.randomness.streams import Scramble, filling, scramble
from ddpm.diffusion.gaussian import Step, kl_nats
from ddpm.diffusion.likelihood import LN2, to_levels, to_unit
from ddpm.machine import cpu_count
from ddpm.models.model import DDPM

from .alone import Alone
from .basis import basis_for
from .denoise import denoise, mirrored_x_hat, seen_at
from .plan import Allotment, Plan

SHARP = -5.0  # gamma, at its own size, from which a small picture is good enough to be shown
CHUNK = 1 << 20  # coordinates; arithmetic that takes many times its room is done on so many at once
RECONSTRUCTIONS = "mean", "flow", "sample"
CHROMA = 1 << 32  # streams of shared noise beside those of the steps


@dataclass
class Prediction:
    """What p says of z_s: its mean is that of q with x_hat for x, its variance 1 + r times that of q."""

    step: Step
    x_hat: torch.Tensor | None  # (B, 3, H, W); None when the chain has drifted
    r: torch.Tensor  # (B, n), of the coded coordinates


class Chain:
    """B images of one size on their way from noise; ``z`` is (B, 3, H, W) float32 at level ``k`` of the plan.

    bf16: the network computes in bfloat16, see denoise.py.
    """

    def __init__(self, model: DDPM, plan: Plan, size: tuple[int, int], batch: int, grey=False, seed=0, bf16=False):
        self.model, self.plan, self.grey, self.seed, self.bf16, self.k = model, plan, grey, seed, bf16, 0
        self.size, self.device, self.basis = size, model.device, basis_for(model.coding, size, grey)
        noise = filling(seed, CHROMA - 1, 3 * size[0] * size[1]).view(1, 3, *size)
        self.z = noise.to(self.device).repeat(batch, 1, 1, 1)

    @property
    def gamma(self) -> float:
        return self.plan.gammas[self.k]

    @property
    def level(self) -> int:
        """Where in the model's tables the chain stands."""
        return self.plan.stops[self.k]

    def step(self) -> Step:
        return Step(self.gamma, self.plan.gammas[self.k + 1])

    def denoise(self):
        """eps_hat, x_hat and m where the chain stands."""
        return denoise(Alone(self.model), self.level, self.gamma, self.z, self.bf16)

    def mean(self, x_hat: torch.Tensor | None = None) -> torch.Tensor:
        """The best guess at x where the chain stands; ``x_hat`` if that is known already.

        Pictures and their mirror images are equally likely, but a network is not quite even: with models that say so
        the mirrored z is looked at as well, and the mean of the two is shown.
        """
        x_hat = self.denoise()[1] if x_hat is None else x_hat
        if not self.model.coding.get("mirrored") or math.isinf(self.gamma):
            return x_hat
        return mirrored_x_hat(Alone(self.model), self.level, self.gamma, self.z, self.bf16).add_(x_hat).div_(2)

    def predict(self) -> Prediction:
        """p(z_s | z_t) for the step that comes next."""
        step = self.step()
        x_hat, m = self.denoise()[1:]
        return Prediction(step, x_hat, self.basis.extra_variance(self.level, step, m))

    def delta(self, p: Prediction, x: torch.Tensor) -> torch.Tensor:
        """(mean_q - mean_p) / std_q in the coded coordinates, (B, n)."""
        return self.basis.coordinates(p.step.delta(x, p.x_hat))

    def drift(self, p: Prediction) -> None:
        """z_t -> the mean of p(z_s | z_t), in place, and x_hat is used up: large pictures need the room."""
        if self.grey:
            h, w = self.size
            noise = filling(self.seed, CHROMA + self.k, 3 * h * w).view(1, 3, h, w).to(self.device)
            free = p.step.z_coef * self.z + p.step.std_q * noise
        p.step.move_to_mean(self.z, p.x_hat)
        if self.grey:
            self.z = self.z.mean(1, keepdim=True) + free - free.mean(1, keepdim=True)
        p.x_hat = None

    def diffuse(self, p: Prediction, zeta: torch.Tensor) -> None:
        """z_s = mean + std zeta, zeta (B, n)."""
        self.z.add_(self.basis.picture((1 + p.r).sqrt_().mul_(p.step.std_q).mul_(zeta)))
        self.k += 1

    def picture(self, x_hat: torch.Tensor) -> torch.Tensor:
        """x_hat (B, 3, H, W) as it is shown: grey images have equal channels."""
        return x_hat.mean(1, keepdim=True).expand(-1, 3, -1, -1) if self.grey else x_hat

    def keep(self, index: Sequence[int]) -> None:
        """Go on with these images of the batch only."""
        self.z = self.z[list(index)]


class Spending(Protocol):
    """Who decides, step by step, how many bits an image gets; see ratecontrol.py."""

    steps: int  # after so many it ends; may change as the chain goes on

    def bits(self, step: int, kl: float) -> int:
        """The bits for a step whose KL along this very chain is ``kl`` bits; asked once for each step, in order."""


@dataclass
class Stream:
    """What the encoder made of one image."""

    messages: list[np.ndarray] = field(default_factory=list)  # of each step, uint8 of 0 and 1
    kl: list[float] = field(default_factory=list)  # bits, of each step along the chain that was sent
    mse: list[float] = field(default_factory=list)  # of `mean` before each step and at the end, in squared grey levels
    z: torch.Tensor | None = None  # (3, H, W) where the chain ended, as every decoder will have it

    @property
    def bits(self) -> np.ndarray:
        """The messages one after the other, uint8 of 0 and 1."""
        return np.concatenate([np.zeros(0, np.uint8), *self.messages])

    def trim(self, fits: Callable[[int, int], bool]) -> None:
        """Drop the last steps until ``fits`` of the number of steps and of their bits."""
        while self.messages and not fits(len(self.messages), sum(map(len, self.messages))):
            for of_steps in (self.messages, self.kl, self.mse):
                of_steps.pop()


def trellis_for(coding: dict, plan: Plan, bits: int) -> trellis.Trellis:
    """The trellis of a model for a message of so many bits."""
    return trellis.Trellis(plan.dims, bits, coding["memory"], coding.get("sphere", False), coding.get("opposed", False))


@dataclass(frozen=True)
class Scrambled:
    """``factors`` times ``values`` in another order, (n,); made a slice at a time."""

    values: torch.Tensor
    order: torch.Tensor
    factors: torch.Tensor

    def __getitem__(self, part: slice) -> torch.Tensor:
        return self.values.index_select(0, self.order[part]).mul_(self.factors[part])


def encode_steps(
    a: torch.Tensor, r: torch.Tensor, codes: Sequence[trellis.Trellis], scrambled: Scramble, pool: ThreadPoolExecutor
) -> list[np.ndarray]:
    """The messages of one step; a, r (B, n)."""
    if len(codes) == 1:
        return [encode_step(a[0], r[0], codes[0], scrambled)]
    with trellis.all_threads():
        return list(pool.map(encode_step, a, r, codes, repeat(scrambled)))


def encode_step(a: torch.Tensor, r: torch.Tensor, code: trellis.Trellis, scrambled: Scramble) -> np.ndarray:
    """The message for one image and step, whose log q/p is a zeta - r/2 zeta^2; a, r (n,)."""
    order, signs = (t.to(a.device) for t in scrambled)
    return trellis.encode(code, Scrambled(a, order, signs), Scrambled(r, order, r.new_tensor(-0.5).expand(r.shape)))


def decode_steps(
    messages: Sequence[np.ndarray], codes: Sequence[trellis.Trellis], scrambled: Scramble, key: tuple[int, int]
) -> torch.Tensor:
    """zeta (B, n) of one step, on the device of ``scrambled``."""
    zeta = torch.empty(len(messages), codes[0].dims, device=scrambled[0].device)
    for message, code, row in zip(messages, codes, zeta):
        decode_step(message, code, scrambled, key, row)
    return zeta


def decode_step(
    message: np.ndarray, code: trellis.Trellis, scrambled: Scramble, key: tuple[int, int], out: torch.Tensor
) -> None:
    """zeta of one image and step into ``out`` (n,); where the message does not reach, shared noise named by ``key``."""
    order, signs = scrambled
    whole = len(message) == code.bits > 0
    rest = out.new_zeros(1).expand(code.dims) if whole else filling(*key, code.dims).to(out.device)
    mixed = trellis.decode(code, message, rest).mul_(signs)
    for places, values in zip(order.split(CHUNK), mixed.split(CHUNK)):  # places become int64 on the way
        out[places] = values


def kl_bits(delta: torch.Tensor, r: torch.Tensor) -> torch.Tensor:
    """KL(q || p) of one image and step in bits, float64; delta, r (n,)."""
    return sum(kl_nats(d**2, r).double().sum() for d, r in zip(delta.split(CHUNK), r.split(CHUNK))) / LN2


def squared_error(shown: torch.Tensor, picture: torch.Tensor) -> torch.Tensor:
    """Sum of (n,) squared differences of uint8 tensors, int64: exact, in whatever order they are added."""
    errors = (shown.flatten().split(CHUNK), picture.flatten().split(CHUNK))
    return sum(a.int().sub_(b.int()).square_().sum() for a, b in zip(*errors))


@torch.inference_mode()
def encode(
    model: DDPM,
    plan: Plan,
    levels: torch.Tensor,
    spending: Sequence[Spending],
    grey=False,
    seed=0,
    channel="trellis",
    mse: Sequence[float | None] | None = None,
    bf16=False,
    progress=None,
) -> list[Stream]:
    """Send B images, ``levels`` (B, 3, H, W) uint8, image i with the bits that ``spending[i]`` gives each step.

    Where ``mse`` has a number (squared grey levels) an image ends as soon as its ``mean`` picture is so close.

    channel "ideal" draws z_s from q itself (nothing decodable is made): the limit that the trellis is measured by.
    """
    levels = levels.to(model.device)
    chain = Chain(model, plan, levels.shape[2:], len(levels), grey, seed, bf16)
    streams = [Stream() for _ in levels]
    active = list(range(len(levels)))
    wanted = mse or [None] * len(levels)
    satisfied = [plan.steps] * len(levels)  # where an image is as close as is asked
    generator = torch.Generator().manual_seed(seed)

    def look(x_hat):
        errors = [squared_error(to_levels(chain.picture(x[None])[0]), levels[i]) for i, x in zip(active, x_hat)]
        for i, error in zip(active, torch.stack(errors).tolist()):
            streams[i].mse.append(error / levels[i].numel())
            if wanted[i] is not None and streams[i].mse[-1] <= wanted[i]:
                satisfied[i] = chain.k

    def ended(i):
        return chain.k == min(spending[i].steps, satisfied[i])

    # Threads of OpenMP beyond the cores, of teams that each of ours would have, slow down all the others.
    with ThreadPoolExecutor(cpu_count(), initializer=torch.set_num_threads, initargs=(1,)) as pool:
        while active:
            if all(map(ended, active)):
                look(chain.mean())
                for i, z in zip(active, chain.z):
                    streams[i].z = z
                break
            p = chain.predict()
            shown = [wanted[i] is not None or ended(i) for i in active]
            if any(shown):
                mean = chain.mean(p.x_hat)
                look([of_mean if as_mean else x_hat for as_mean, of_mean, x_hat in zip(shown, mean, p.x_hat)])
                del mean
            else:
                look(p.x_hat)
            rest = [j for j, i in enumerate(active) if not ended(i)]
            if not rest:
                break
            if len(rest) < len(active):
                active = [active[j] for j in rest]
                chain.keep(rest)
                p = Prediction(p.step, p.x_hat[rest], p.r[rest])
            delta = chain.delta(p, to_unit(levels[active]))
            chain.drift(p)
            kl = torch.stack([kl_bits(d, r) for d, r in zip(delta, p.r)]).tolist()
            for i, bits in zip(active, kl):
                streams[i].kl.append(bits)
            if channel == "ideal":
                noise = torch.randn(delta.shape, generator=generator).to(delta.device)
                zeta = (delta + noise) / (1 + p.r).sqrt()
            else:
                key = seed, chain.k
                allowed = [spending[i].bits(chain.k, bits) for i, bits in zip(active, kl)]
                trellises = [trellis_for(model.coding, plan, bits) for bits in allowed]
                mixed = scramble(*key, plan.dims, chain.device)
                a = delta.mul_((1 + p.r).sqrt_())
                sent = encode_steps(a, p.r, trellises, mixed, pool)
                del a, delta
                zeta = decode_steps(sent, trellises, mixed, key)
                for i, message in zip(active, sent):
                    streams[i].messages.append(message)
                del mixed
            chain.diffuse(p, zeta)
            del p, zeta  # the next prediction needs the room
            if progress:
                progress(1)
    return streams


@torch.inference_mode()
def decode(
    model: DDPM,
    plan: Plan,
    bits: Sequence[np.ndarray],
    allotments: Sequence[Allotment],
    steps: int,
    size: tuple[int, int],
    grey=False,
    seed=0,
    bf16=False,
    progress=None,
) -> Chain:
    """Where B payloads, whole or cut, lead the chain; all images go ``steps`` steps (``Allotment.reach``)."""
    chain = Chain(model, plan, size, len(bits), grey, seed, bf16)
    for _ in follow(chain, bits, allotments, steps):
        if progress:
            progress(1)
    return chain


@torch.inference_mode()
def stages(
    model: DDPM,
    plan: Plan,
    bits: np.ndarray,
    allotment: Allotment,
    steps: int,
    size: tuple[int, int],
    grey=False,
    seed=0,
    bf16=False,
) -> Iterator[np.ndarray]:
    """The ``mean`` picture (H, W, 3) after 0, 1, ..., ``steps`` steps of one payload, in one pass."""
    chain = Chain(model, plan, size, 1, grey, seed, bf16)
    for p in follow(chain, [bits], [allotment], steps):
        yield shown(chain, chain.mean(p.x_hat))[0]
    yield shown(chain, reconstruct(chain, "mean"))[0]


def follow(
    chain: Chain, bits: Sequence[np.ndarray], allotments: Sequence[Allotment], steps: int
) -> Iterator[Prediction]:
    """Move the chain as the payloads say, until ``steps``; yields each step's prediction before it is taken."""
    position = [0] * len(bits)
    while chain.k < steps:
        p = chain.predict()
        yield p
        chain.drift(p)
        trellises = [trellis_for(chain.model.coding, chain.plan, a.sizes[chain.k]) for a in allotments]
        sent = [b[i : i + t.bits] for b, i, t in zip(bits, position, trellises)]
        key = chain.seed, chain.k
        mixed = scramble(*key, chain.plan.dims, chain.device)
        zeta = decode_steps(sent, trellises, mixed, key)
        position = [i + t.bits for i, t in zip(position, trellises)]
        del mixed
        chain.diffuse(p, zeta)
        del p, zeta  # the next prediction needs the room


@torch.inference_mode()
def show(chain: Chain, recon="mean", seed=0) -> np.ndarray:
    """The pictures of the images where the chain stands, (B, H, W, 3) uint8; see ``reconstruct``."""
    return shown(chain, reconstruct(chain, recon, seed))


def shown(chain: Chain, x_hat: torch.Tensor) -> np.ndarray:
    """(B, H, W, 3) uint8."""
    return to_levels(chain.picture(x_hat)).permute(0, 2, 3, 1).cpu().numpy()


def steps_for(plan: Plan, scale: int) -> int:
    """How many steps a picture ``scale`` times smaller needs: to where averaging leaves no more noise than SHARP."""
    return next((k for k, gamma in enumerate(plan.gammas) if gamma - 2 * math.log(scale) <= SHARP), plan.steps)


@torch.inference_mode()
def show_small(chain: Chain, scale: int) -> np.ndarray:
    """The ``mean`` pictures ``scale`` times smaller, (B, ceil(H / scale), ceil(W / scale), 3) uint8."""
    if math.isinf(chain.gamma):
        return shown(chain, chain.denoise()[1][..., ::scale, ::scale])
    return shown(chain, seen_at(chain.model, scale, chain.gamma, chain.z, chain.bf16)[1])


def reconstruct(chain: Chain, recon: str, seed=0) -> torch.Tensor:
    """x (B, 3, H, W) from z_t: ``mean`` is ``Chain.mean``; ``flow`` follows the probability-flow ODE; ``sample`` draws
    from p.

    The last two run over the plan's remaining levels; ``sample`` takes its noise from ``seed``. A grey image is drawn
    as a colour one: what of its colours was never coded is the model's to choose, and not shown.
    """
    if recon not in RECONSTRUCTIONS:
        raise ValueError(f"unknown reconstruction {recon!r}")
    basis = basis_for(chain.model.coding, chain.size, False)
    if recon != "mean":
        for k in range(chain.k, chain.plan.steps):
            step = chain.step()
            eps_hat, x_hat, m = chain.denoise()
            if recon == "flow":
                chain.z = step.flow(x_hat, eps_hat)
            else:
                noise = filling(seed, 2 * CHROMA + k, chain.z[0].numel()).to(chain.device)
                r = basis.extra_variance(chain.level, step, m)
                chain.z = step.mean(chain.z, x_hat) + basis.picture(step.std_q * (1 + r).sqrt() * noise)
            chain.k = k + 1
        return chain.denoise()[1]
    return chain.mean()
