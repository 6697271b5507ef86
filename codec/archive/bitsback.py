"""Bits-back coding of pictures on an ANS stack: what it grows by is the model's bound on the chain's levels, no more.

To push x: pop z_0 ~ q(z_0 | x), push x ~ p(x | z_0); then at each level pop z_t ~ q(z_t | z_s), the forward kernel
N(alpha_t / alpha_s z_s, sigma_t^2 c), and push z_s ~ p(z_s | z_t); last push z_T ~ p(z_T). No more than two latents
are borrowed at a time (Bit-Swap: Kingma, Abbeel & Ho 2019; Townsend et al. 2019). To pop x is the mirror image.

A latent is an integer on a grid whose spacing, a power of two, is 1/8 to 1/16 of the narrower of the two Gaussians that
code it: a bin of a Gaussian's mass is then as good as its density.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np
import torch
from constriction import stream  # pyright: ignore[reportAttributeAccessIssue]  # stubs lack it

from codec.errors import CodecError, DamagedFile, as_mistakes
from codec.lossless.context import Sight
from codec.lossless.entropy import Uniform, from_symbols, to_symbols
from codec.lossless.likelihood import pixel_nats
from codec.lossy.tables import tables_of
from ddpm.diffusion.likelihood import LN2, UNIT_LEVELS
from ddpm.models.model import DDPM

from .gaussians import Gaussians
from .header import MAX_STEPS
from .latents import CodeLatents, Latents, ScheduleLatents
from .patches import CODE, Kind

TAIL = 1 << 20  # grid points beyond, sent plainly
INSTEAD = "say --steps T, or "  # of measuring coding tables
RESERVE = 4  # words; below it ANS may have made up what it popped


class Dry(Exception):
    """The stack holds too little to borrow from."""


class Stack:
    """An ANS coder. What ``pop`` returns, ``push`` with the same arguments puts back, bit by bit, and vice versa."""

    def __init__(self, gaussians: Gaussians, words: np.ndarray | None = None):
        self.gaussians = gaussians
        try:
            self.coder = stream.stack.AnsCoder(*([] if words is None else [words.astype(np.uint32)]))
        except ValueError:
            raise DamagedFile("the archive's words are damaged") from None
        self.lowest = self.bits

    def copy(self) -> Stack:
        return type(self)(self.gaussians, self.words())

    @property
    def bits(self) -> int:
        return self.coder.num_valid_bits()

    def words(self) -> np.ndarray:
        return self.coder.get_compressed()

    def push(self, k: np.ndarray, mean: np.ndarray, std: np.ndarray | float, tails=True) -> None:
        """Integers k (n,) under Gaussians, mean (n,), std (n,) or one, in grid points. Without tails: k is in reach."""
        frame = self.gaussians.frame(mean, std, exact=not tails)
        symbols = k[frame.order] - frame.centre
        beyond = np.abs(symbols) - frame.reach
        if tails:
            beyond = beyond[beyond >= 0]
            if len(beyond):
                if beyond.max() >= TAIL:
                    raise CodecError("the model is too far from this picture; nothing is written")
                self.coder.encode_reverse(beyond.astype(np.int32), Uniform(TAIL))
                symbols = np.clip(symbols, -frame.reach, frame.reach)
        elif beyond.max() > 0:
            raise DamagedFile("the archive's words contradict each other: they are damaged")
        symbols = (symbols + frame.reach).astype(np.int32)
        end = len(symbols)
        for count, model in reversed(frame.models):
            self.coder.encode_reverse(symbols[end - count : end], model)
            end -= count

    def pop(self, mean: np.ndarray, std: np.ndarray | float, tails=True) -> np.ndarray:
        """(n,) int64."""
        frame = self.gaussians.frame(mean, std, exact=not tails)
        symbols = np.concatenate([self.coder.decode(model, count) for count, model in frame.models])
        symbols -= frame.reach
        if tails:
            beyond = np.flatnonzero(np.abs(symbols) == frame.reach)
            if len(beyond):
                symbols[beyond] += np.sign(symbols[beyond]) * self.coder.decode(Uniform(TAIL), len(beyond))
        k = np.empty(len(symbols), np.int64)
        k[frame.order] = frame.centre + symbols
        return k

    def borrow(self, mean: np.ndarray, std: np.ndarray | float) -> np.ndarray:
        """``pop`` without tails, of bits that were there for another purpose; Dry if they were not.

        What was just pushed is far from random where the model is wrong, and so would be what is popped: the words are
        masked first.
        """
        self._mask(len(mean))
        k = self.pop(mean, std, tails=False)
        self.lowest = min(self.lowest, self.bits)
        if self.coder.num_words() < RESERVE:
            raise Dry
        return k

    def repay(self, k: np.ndarray, mean: np.ndarray, std: np.ndarray | float) -> None:
        """The inverse of ``borrow``."""
        self.push(k, mean, std, tails=False)
        self._mask(len(mean))

    def _mask(self, count: int) -> None:
        """Exclusive or of the upper words, but for the two of the coder's state, with noise; it is its own inverse."""
        words = self.words()
        count = min(len(words) - 2, count)
        if count > 0:
            noise = np.random.PCG64(len(words)).random_raw(count) >> np.uint64(32)
            words[-2 - count : -2] ^= noise.astype(np.uint32)
            self.coder = stream.stack.AnsCoder(words)

    def push_pixels(self, x: np.ndarray, sight: Sight) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """x (n,) uint8, of which nothing is known yet but what ``sight`` believes; see ``Sight.predictions``."""
        groups = sight.predictions(x)
        for group in reversed(groups):
            for symbols, model in reversed(list(to_symbols(*map(np.ravel, group)))):
                self.coder.encode_reverse(symbols, model)
        return groups

    def pop_pixels(self, sight: Sight) -> np.ndarray:
        """(n,) uint8."""
        for group in sight.groups:
            sight.update(group, from_symbols(self.coder, *map(np.ravel, sight.predict(group))))
        return sight.x.ravel()

    def push_bytes(self, data: bytes) -> None:
        self.coder.encode_reverse(np.frombuffer(data, np.uint8).astype(np.int32), Uniform(256))

    def pop_bytes(self, count: int) -> bytes:
        return self.coder.decode(Uniform(256), count).astype(np.uint8).tobytes()


def bits_of(k: np.ndarray, mean: np.ndarray, std: np.ndarray | float) -> np.ndarray:
    """-log2 of the mass of bins k (n,) under Gaussians, which on so fine a grid is their density."""
    return ((k - mean) / std) ** 2 / (2 * LN2) + np.log2(std * math.sqrt(2 * math.pi))


class BitsBack:
    """Bits-back along a chain of latents; both ways are mirror images."""

    def __init__(self, latents: Latents):
        self.latents, self.steps, self.grid = latents, latents.transitions, latents.grid

    @property
    def evaluations(self) -> int:
        """How often the network is asked about one batch."""
        return self.steps + 1

    @torch.inference_mode()
    def push(self, stack: Stack, x: np.ndarray, progress: Callable[[int], object] = lambda n: None) -> np.ndarray:
        """A batch of pictures, uint8 (B, C, H, W). Dry if the stack holds too little; it is then spoilt.

        What each of them costs, (B,) bits: what it pushes less what it borrows.
        """
        shape, costs = x.shape, np.zeros(len(x))

        def each(bits):
            return np.reshape(bits, (len(x), -1)).sum(1)

        first = self._first(x)
        k = stack.borrow(*first)
        costs -= each(bits_of(k, *first))
        groups = stack.push_pixels(x.ravel(), self._pixels(k, shape))
        costs += sum(each(pixel_nats(*group)) for group in groups) / LN2
        for i in reversed(range(self.steps)):
            forward = self._forward(i, k, shape)
            k_s, k = k, stack.borrow(*forward)
            reverse = self._reverse(i, k, shape)
            stack.push(k_s, *reverse)
            costs += each(bits_of(k_s, *reverse)) - each(bits_of(k, *forward))
            progress(len(x))
        prior = self._prior(shape)
        stack.push(k, *prior)
        progress(len(x))
        return costs + each(bits_of(k, *prior))

    @torch.inference_mode()
    def pop(
        self, stack: Stack, shape: tuple[int, int, int, int], progress: Callable[[int], object] = lambda n: None
    ) -> np.ndarray:
        """The batch of that shape that was pushed last, uint8 (B, C, H, W); gives back what it had borrowed."""
        k = stack.pop(*self._prior(shape))
        for i in range(self.steps):
            k_t, k = k, stack.pop(*self._reverse(i, k, shape))
            stack.repay(k_t, *self._forward(i, k, shape))
            progress(shape[0])
        x = stack.pop_pixels(self._pixels(k, shape)).reshape(shape)
        stack.repay(k, *self._first(x))
        progress(shape[0])
        return x

    def _first(self, x):
        """q(z_0 | x)."""
        return self._in_grid(-1, self.latents.first(x / UNIT_LEVELS - 1), len(x))

    def _forward(self, i, k_s, shape):
        """q(z_t | z_s) of step i."""
        return self._in_grid(i, self.latents.forward(i, k_s * self._spacing(i + 1, shape[0]), shape), shape[0])

    def _reverse(self, i, k_t, shape):
        """p(z_s | z_t) of step i."""
        return self._in_grid(i + 1, self.latents.reverse(i, k_t * self._spacing(i, shape[0]), shape), shape[0])

    def _pixels(self, k, shape):
        """p(x | z_0)."""
        return Sight(self.latents.context, *self.latents.pixels(k * self._spacing(-1, shape[0]), shape), shape)

    def _prior(self, shape):
        """p(z_T)."""
        return self._in_grid(0, self.latents.prior(shape), shape[0])

    def _spacing(self, i, count):
        """Of latent i of so many pictures: a number, or one for each coordinate."""
        return np.tile(self.grid[i], count) if np.ndim(self.grid[i]) else self.grid[i]

    def _in_grid(self, i, gaussian, count):
        (mean, std), spacing = gaussian, self._spacing(i, count)
        return mean / spacing, std / spacing


def bitsback_for(model: DDPM, steps: int) -> Callable[[Kind], BitsBack]:
    """Of a kind of patch, along T = ``steps`` levels of the schedule or the steps of the lossy code."""
    if steps == CODE:
        tables = tables_of(model, INSTEAD)
        return lru_cache(maxsize=None)(lambda kind: BitsBack(CodeLatents(model, tables, kind[:2], kind[2] == 1)))
    if not 2 <= steps <= MAX_STEPS:
        raise CodecError(f"an archive has 2 to {MAX_STEPS} steps, not {steps}")
    with as_mistakes():
        bitsback = BitsBack(ScheduleLatents(model, steps))
    return lambda kind: bitsback


def gaussians_for(model: DDPM, steps: int) -> Gaussians:
    """The rounding that suits these latents."""
    return Gaussians(len(tables_of(model, INSTEAD).levels) if steps == CODE else steps)
