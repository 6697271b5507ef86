"""The variational bound term by term, in bits/dim: what a model says about data.

    L = L_T + sum_{t=2}^{T} L_{t-1} + L_0                                        (Ho et al. 2020, eq. 5)

on T levels of noise x_T ... x_1, our z_T ... z_0. rate = L_T + sum L_{t-1} is what a progressive code sends before the
last noise goes; distortion = L_0 is -log2 p(x | z_0). As T goes to infinity the middle becomes an integral over gamma
(Kingma et al. 2021, eq. 14). Each term is an expectation over z_t, estimated with one draw per image; of the terms
themselves all are computed, or some, chosen so that they are spread evenly over gamma.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from tqdm import tqdm

from .gaussian import Step, kl_nats, prior_kl_nats
from .likelihood import LN2, discretized_gaussian_nats, to_unit
from .noise import Noise
from .reverse import Reverse

GOLDEN = (math.sqrt(5) - 1) / 2  # multiples of it, modulo 1, are spread evenly however many are taken


class Terms:
    """The terms of T levels of noise, descending ``gammas``; all in nats/dim, one value for each image."""

    levels: int | None  # T; None for its limit

    def __init__(self, reverse: Reverse, gammas: Sequence[float] | np.ndarray):
        self.reverse, self.levels = reverse, len(gammas)
        self.process = reverse.process
        self.steps = [self.process.step(float(t), float(s)) for t, s in pairwise(gammas)]
        spans = -np.diff(np.asarray(gammas, np.float64))
        self.ends = np.cumsum(spans) / spans.sum()

    def prior(self, x: torch.Tensor) -> torch.Tensor:
        """L_T = KL(q(z_T | x) || N(0, I))."""
        x = self.process.coordinates(x)
        first = self.process.over(self.steps[0], x)
        return per_dim(prior_kl_nats(x, first.alpha_t, first.sigma_t))

    def term(self, k: int, x: torch.Tensor, eps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """KL(q(z_s | z_t, x) || p(z_s | z_t)) of step k = 0 ... T - 2, with z_t = alpha_t x + sigma_t eps; and x_hat.

        x_hat, from which it comes, is (B, C, H, W).
        """
        return self._kl_and_x_hat(self.steps[k], x, eps)

    def drawn(self, u: np.ndarray, x: torch.Tensor, eps: torch.Tensor) -> torch.Tensor:
        """An unbiased estimate of the sum of all terms from one of them, chosen by u (B,) in [0, 1).

        A step is chosen in proportion to the gamma that it covers, and its term divided by that probability.
        """
        k = np.minimum(np.searchsorted(self.ends, u, side="right"), len(self.steps) - 1)
        share = np.diff(self.ends, prepend=0)[k]
        kl, _ = self._kl_and_x_hat(type(self.steps[0]).stack([self.steps[i] for i in k], x), x, eps)
        return kl / torch.from_numpy(share).to(kl)

    def distortion(self, x: torch.Tensor, eps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """L_0 = -ln p(x | z_0), and the x_hat (B, C, H, W) at z_0, which is the mean of p(x | z_0)."""
        z_0 = self.process.coordinates(x)
        last = self.process.over(self.steps[-1], z_0)
        mean, log_std = self.reverse.pixels(last, last.alpha_s * z_0 + last.sigma_s * eps)
        return per_dim(discretized_gaussian_nats(x, mean, log_std)), mean

    def _kl_and_x_hat(self, step: Step, x, eps):
        x = self.process.coordinates(x)
        step = self.process.over(step, x)
        x_hat, r = self.reverse.predict(step, step.alpha_t * x + step.sigma_t * eps)
        return per_dim(kl_nats(step.delta(x, x_hat) ** 2, r)), self.process.pixels(x_hat)


class Limit(Terms):
    """T = infinity: L_T + (gamma_max - gamma_min)/2 E|delta|^2/dgamma + L_0, where p's variance no longer matters."""

    def __init__(self, reverse: Reverse, gamma_max: float, gamma_min: float):
        super().__init__(reverse, [gamma_max, gamma_min])
        self.levels = None

    def drawn(self, u, x, eps):
        top, bottom = self.steps[0].gamma_t, self.steps[0].gamma_s
        steps = [self.process.step(gamma, gamma - 1) for gamma in (top + u * (bottom - top)).tolist()]
        x = self.process.coordinates(x)
        step = self.process.over(type(steps[0]).stack(steps, x), x)
        x_hat, _, _ = self.reverse.evaluate(step, step.alpha_t * x + step.sigma_t * eps)
        return (top - bottom) / 2 * per_dim(self.process.slope(step) * (x - x_hat) ** 2)

    def distortion(self, x, eps):
        if self.reverse.variance != "learned":
            raise ValueError("with a fixed variance the bound has no limit: p(x | z_0) has the variance of a step")
        return super().distortion(x, eps)


def per_dim(nats: torch.Tensor) -> torch.Tensor:
    """(B, C, H, W) -> (B,) means."""
    return nats.flatten(1).mean(1)


@dataclass(frozen=True)
class Bound:
    """What was measured, in bits/dim. parts: (images, 3), of each image L_T, sum of L_{t-1}, L_0."""

    parts: np.ndarray
    steps: int | None  # T; None for its limit
    samples: int | None  # terms drawn for each image; None: all were computed
    terms: np.ndarray | None = None  # (T - 1,), mean over images of L_{T-1} ... L_1

    @property
    def images(self) -> int:
        return len(self.parts)

    @property
    def prior(self) -> float:
        """L_T."""
        return float(self.parts[:, 0].mean())

    @property
    def rate(self) -> float:
        """L_T + sum of L_{t-1}."""
        return float(self.parts[:, :2].sum(1).mean())

    @property
    def distortion(self) -> float:
        """L_0."""
        return float(self.parts[:, 2].mean())

    @property
    def per_image(self) -> np.ndarray:
        """(images,) totals."""
        return self.parts.sum(1)

    @property
    def total(self) -> float:
        return float(self.per_image.mean())

    @property
    def stderr(self) -> float | None:
        """Standard error of the total over images; None for a single one."""
        return float(self.per_image.std(ddof=1) / math.sqrt(self.images)) if self.images > 1 else None

    def named_terms(self) -> list[dict] | None:
        """[{"term": "L_T", "bits_per_dim": ...}, ..., {"term": "L_0", ...}], which add up to the total."""
        if self.terms is None:
            return None
        values = [self.prior, *self.terms.tolist(), self.distortion]
        return [{"term": f"L_{len(values) - 1 - i}", "bits_per_dim": v} for i, v in enumerate(values)]

    def to_json(self) -> dict:
        return {
            "total": self.total,
            "rate": self.rate,
            "distortion": self.distortion,
            "prior": self.prior,
            "stderr": self.stderr,
            "images": self.images,
            "steps": "infinity" if self.steps is None else self.steps,
            "samples": self.samples,
            "terms": self.named_terms(),
        }

    @classmethod
    def merge(cls, bounds: Sequence[Bound]) -> Bound:
        """Of several sets of images; terms only if all have the same steps."""
        counts = [b.images for b in bounds]
        alike = len({(b.steps, None if b.terms is None else len(b.terms)) for b in bounds}) == 1
        known = [b.terms for b in bounds if b.terms is not None]
        terms = np.average(known, 0, counts) if alike and known else None
        return cls(np.concatenate([b.parts for b in bounds]), bounds[0].steps, bounds[0].samples, terms)


def spread(numbers: np.ndarray, sample: int, samples: int, seed: int) -> np.ndarray:
    """Points of [0, 1) for the images with these numbers, evenly spread over all and their samples (Kronecker)."""
    return (np.random.default_rng(seed).random() + GOLDEN * (numbers * samples + sample)) % 1


def own_steps(model) -> int | None:
    """The T that a model's schedule has by itself, or None for a continuous one."""
    return getattr(model.schedule, "T", None)


def terms_for(reverse: Reverse, steps: int | None) -> Terms:
    """Those of T = ``steps`` levels of the model's schedule, or their limit for None; ValueError if there are none."""
    if steps is None:
        return Limit(reverse, reverse.model.schedule.gamma_max, reverse.model.schedule.gamma_min)
    return Terms(reverse, reverse.levels(steps))


@torch.inference_mode()
def bound(
    terms: Terms,
    batches: Iterable[torch.Tensor],
    *,
    samples: int | None = None,
    seed: int = 0,
    numbers: Sequence[Sequence[int] | np.ndarray] | None = None,
    quiet: bool = False,
    progress=None,
) -> Bound:
    """The bound on pictures: batches of (B, C, H, W) uint8.

    samples: None computes all terms; a number estimates their sum from so many for each image. numbers: what the images
    of each batch are known by, for their noise; by default they are counted. progress: called with each batch's
    size for every evaluation, in the place of a bar. ValueError for a limit without samples.
    """
    if samples is None and terms.levels is None:
        raise ValueError("in the limit of infinitely many steps terms are drawn, not enumerated: say how many")
    batches = list(batches)
    numbers = numbers or np.split(np.arange(sum(map(len, batches))), np.cumsum([len(b) for b in batches])[:-1])
    work = (len(terms.steps) if samples is None else samples) + 1
    done = []
    hidden = True if quiet or progress else None
    with tqdm(total=work * sum(map(len, batches)), disable=hidden, desc="bound") as bar:
        progress = progress or bar.update
        for batch, known in zip(batches, numbers):
            x = to_unit(batch.to(terms.reverse.model.device))
            known, noise, kl = np.asarray(known), Noise(seed, known, x.shape[1:]), []
            for k in range(work - 1):
                eps = noise.draw(x.device)
                if samples is None:
                    kl.append(terms.term(k, x, eps)[0])
                else:
                    kl.append(terms.drawn(spread(known, k, samples, seed), x, eps))
                progress(len(x))
            distortion, _ = terms.distortion(x, noise.draw(x.device))
            progress(len(x))
            kl = torch.stack(kl, 1).double()
            middle = kl.sum(1) if samples is None else kl.mean(1)
            parts = torch.stack([terms.prior(x).double(), middle, distortion.double()], 1).cpu().numpy() / LN2
            means = kl.mean(0).cpu().numpy() / LN2 if samples is None else None
            done.append(Bound(parts, terms.levels, samples, means))
    return Bound.merge(done)
