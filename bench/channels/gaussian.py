"""What the schemes share: the density ratio q/p, the cut of dimensions into chunks, and random numbers by their key."""

from __future__ import annotations

import math

import numpy as np

from codec.randomness.philox import generator

CANDIDATES, ARRIVALS, CHOICE, DITHER = range(65, 69)  # purposes that the codec does not use


def random(purpose: int, seed: int, stream: int) -> np.random.Generator:
    """The stream named by (purpose, seed, stream). Versions of NumPy may draw Gaussians from it differently."""
    return np.random.Generator(generator(purpose, seed, stream))


def linear_and_square(delta: np.ndarray, r: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """a, b with ln q/p (zeta) = a zeta + b zeta^2 + ``constant``; all (D,)."""
    return np.sqrt(1 + r) * delta, -r / 2


def constant(delta: np.ndarray, r: np.ndarray) -> float:
    """ln q/p (0) in nats."""
    return float((np.log1p(r) - delta**2).sum(dtype=np.float64) / 2)


def split(values: np.ndarray, r: np.ndarray, n: int) -> list[np.ndarray]:
    """(D,) -> n chunks that expect much the same KL: dimensions are dealt out in the order of r, as cards are."""
    order = np.argsort(r, kind="stable")
    return [values[order[i::n]] for i in range(n)]


def join(chunks: list[np.ndarray], r: np.ndarray) -> np.ndarray:
    """The inverse of ``split``."""
    order, out = np.argsort(r, kind="stable"), np.empty(len(r), np.float32)
    for i, chunk in enumerate(chunks):
        out[order[i :: len(chunks)]] = chunk
    return out


def whole(ideal: float) -> int:
    """Bits that an arithmetic coder needs for a message of probability 2^-ideal, so that what follows can be told from
    it: ceil(ideal) + 1 (Cover & Thomas 2006, section 5.9)."""
    return math.ceil(ideal) + 1
