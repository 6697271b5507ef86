"""Poisson functional representation: a true sample of q by the index of one candidate (Li & El Gamal 2018).

Candidates Z_1, Z_2, ... from p arrive at the times T_1 < T_2 < ... of a Poisson process of rate 1. Their theorem 1:

    K = argmin_i T_i / w(Z_i),   w = q/p,    then Z_K ~ q and E log2 K <= KL + log2(e) / e + 1

K is coded under the Zipf distribution of their proof, pmf(k) = k^-lambda / zeta(lambda) with
lambda = 1 + 1 / (KL + log2(e) / e + 1). The number of candidates to look at grows faster than 2^KL, so the dimensions
are cut into chunks of a few bits of KL; an arithmetic coder writes all indices as one message (lengths are ideal, and
its end is counted).

The textbook stops where T_i / max w exceeds the smallest ratio S so far, but w has no maximum where q and p are equally
wide. What is bounded is the chance that any later candidate wins. Of those after time T, as many as

    int_T^inf P_p(w > t / S) dt  =  S E_p (w - T / S)_+

are expected to have a smaller ratio (``Later``). The search ends where this is below ``tolerance``: a chunk's
distribution is then within that total variation of q.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr, xlogy, zeta

from .gaussian import ARRIVALS, CANDIDATES, constant, join, linear_and_square, random, split, whole

BLOCK = 512  # candidates that are made at once
LIMIT = 18  # log2 of the candidates of a chunk
POWERS = np.geomspace(0.1, 16, 32)  # u


@dataclass(frozen=True, eq=False)
class PFR:
    """D = len(r) dimensions and a KL of ``bits`` bits, in chunks of about ``chunk`` bits; both sides know all of these.

    A chunk's search is given up after ``limit`` candidates, and the best so far is sent: it is then no true sample.
    """

    r: np.ndarray
    bits: float
    chunk: float = 4
    seed: int = 0
    tolerance: float = 2.0**-8
    limit: int = 1 << LIMIT

    @property
    def chunks(self) -> int:
        return min(math.ceil(self.bits / self.chunk), len(self.r))

    def search(self, delta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The indices K, (n,) int64 from 1, and of which chunks the search was given up, (n,) bool."""
        parts = zip(split(delta, self.r, self.chunks), split(self.r, self.r, self.chunks))
        found = [self._first_arrival(i, *part) for i, part in enumerate(parts)]
        return np.array([k for k, _ in found]), np.array([missed >= self.tolerance for _, missed in found])

    def encode(self, delta: np.ndarray) -> np.ndarray:
        """The indices K, (n,) int64 from 1."""
        return self.search(delta)[0]

    def decode(self, indices: np.ndarray) -> np.ndarray:
        dims = map(len, split(self.r, self.r, self.chunks))
        blocks = [(*divmod(int(k) - 1, BLOCK), d) for k, d in zip(indices, dims)]
        return join([self._candidates(i, block, d)[row] for i, (block, row, d) in enumerate(blocks)], self.r)

    def length(self, indices: np.ndarray) -> int:
        return whole(zipf_bits(indices, self.bits / self.chunks).sum())

    def _candidates(self, chunk: int, block: int, dims: int) -> np.ndarray:
        """(BLOCK, dims) float32 from p: a block of a chunk's candidates."""
        return random(CANDIDATES, self.seed, chunk << 32 | block).standard_normal((BLOCK, dims), np.float32)

    def _first_arrival(self, chunk: int, delta: np.ndarray, r: np.ndarray) -> tuple[int, float]:
        """K and the later winners expected at most, of one chunk."""
        (a, b), at_zero, later = linear_and_square(delta, r), constant(delta, r), Later(delta, r)
        a, b = a.astype(np.float32), b.astype(np.float32)
        arrivals = random(ARRIVALS, self.seed, chunk)
        now, least, K, missed = 0.0, math.inf, 0, math.inf  # least: ln S
        for block in range(-(-self.limit // BLOCK)):
            times = now + arrivals.standard_exponential(BLOCK).cumsum()
            candidates = self._candidates(chunk, block, len(delta))
            log_w = at_zero + candidates @ a
            if b.any():
                log_w += candidates**2 @ b
            ratios = np.log(times) - log_w
            best, now = int(ratios.argmin()), times[-1]
            if ratios[best] < least:
                least, K = float(ratios[best]), 1 + block * BLOCK + best
            missed = later(math.log(now), least)
            if missed < self.tolerance:
                break
        return K, missed


class Later:
    """S E_p (w - T / S)_+, or a bound on it: how many candidates after the time T win against the smallest ratio S.

    Where r = 0, ln w is a Gaussian of deviation d = |delta|, and that mean is the one of Black & Scholes 1973:

        S (Phi(d - c) - T / S Phi(-c)),    c = (ln(T / S) + d^2 / 2) / d

    Otherwise, for every u > 0, (w - x)_+ <= c_u x^-u w^(1 + u) with c_u = u^u / (1 + u)^(1 + u), and the moments of w
    under p are Gaussian integrals. The least of the bounds by a few u is taken; it costs two to four times as many
    candidates as the mean itself would.
    """

    def __init__(self, delta: np.ndarray, r: np.ndarray):
        self.distance = max(math.sqrt(delta @ delta), 1e-30)
        self.wider = bool(r.any())
        v = 1 + POWERS[:, None]
        spread = 1 + v * r
        moments = v * (np.log1p(r) - delta**2) - np.log(spread) + v**2 * (1 + r) * delta**2 / spread  # 2 ln E_p w^v
        self.bounds = moments.sum(1) / 2 + xlogy(POWERS, POWERS) - xlogy(1 + POWERS, 1 + POWERS)

    def __call__(self, log_time: float, log_least: float) -> float:
        """For ln T and ln S."""
        x = log_time - log_least
        if self.wider:
            return math.exp(min(log_least + float((self.bounds - POWERS * x).min()), 0.0))
        c = x / self.distance + self.distance / 2
        return math.exp(log_least) * float(ndtr(self.distance - c)) - math.exp(log_time) * float(ndtr(-c))


def zipf_bits(k: np.ndarray, kl: float) -> np.ndarray:
    """-log2 of the Zipf pmf of integers k >= 1, for indices whose KL is ``kl`` bits."""
    power = 1 + 1 / (kl + math.log2(math.e) / math.e + 1)
    return power * np.log2(k) + math.log2(zeta(power))
