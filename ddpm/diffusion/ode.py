"""The likelihood of images under the probability-flow ODE, by the instantaneous change of variables.

With y = z / alpha and s = sigma / alpha = exp(gamma / 2) the flow is dy/ds = eps_hat(alpha y, gamma), and along it
d log p(y)/ds = -tr(d eps_hat / d y) (Song et al. 2021, "Score-based generative modeling through stochastic differential
equations", eqs. 13 and 39). It joins an image y = v, taken to be at gamma_min, to z = alpha y ~ N(0, I) at gamma_max.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import repeat

import numpy as np
import torch
from scipy.integrate import solve_ivp
from scipy.special import logsumexp
from tqdm import tqdm

from .bands import Bands
from .likelihood import HALF_LEVEL, LN2, to_unit
from .schedule import alpha_sigma

TRACES = ("hutchinson", "exact")


@dataclass(frozen=True)
class OdeLikelihood:
    """Code lengths under the flow in bits/dim, image by image."""

    per_image: np.ndarray  # (images,) float64, in the order given
    evaluations: int  # calls of the network on a batch, over all batches and samples
    samples: int
    trace: str
    tolerance: tuple[float, float]  # rtol, atol

    @property
    def images(self) -> int:
        return len(self.per_image)

    @property
    def bits_per_dim(self) -> float:
        """The mean over images."""
        return float(self.per_image.mean())

    @property
    def stderr(self) -> float | None:
        """Standard error of the mean over images; None for a single one."""
        return float(self.per_image.std(ddof=1) / math.sqrt(self.images)) if self.images > 1 else None

    @classmethod
    def merge(cls, parts: Sequence[OdeLikelihood]) -> OdeLikelihood:
        """Of several sets of images, of which the same was asked."""
        per_image = np.concatenate([part.per_image for part in parts])
        return replace(parts[0], per_image=per_image, evaluations=sum(part.evaluations for part in parts))


def ode_likelihood(
    model,
    batches: Iterable[torch.Tensor],
    *,
    samples: int = 1,
    trace: str = "hutchinson",
    rtol: float = 1e-5,
    atol: float = 1e-5,
    seed: int = 0,
    indices: Iterable[Sequence[int]] | None = None,
    quiet: bool = False,
) -> OdeLikelihood:
    """An upper bound on -log2 P(x) per dimension by uniform dequantization, for uint8 batches (B, C, H, W).

    P(x) = E p(x + u) (2/255)^D with u uniform on the bin of x, estimated from ``samples`` = k values of u:

        exact        -ln mean_k p(x + u_k), the importance-weighted bound (Burda et al. 2016), tighter with k
        hutchinson   -mean_k ln p(x + u_k), the bound at k = 1 with less noise as k grows

    Hutchinson's ln p is unbiased but noisy, by about 100 nats for an image of CIFAR-10, ten times what u does to it; a
    mean of exponentials would take that noise for likelihood. The draws of an image depend on ``seed`` and its number
    alone; numbers count from 0 over all batches, or are given by ``indices``, a sequence of ints for each batch (for
    shards of one set). The solver chooses its steps for a whole batch, so within the tolerance a figure also depends on
    the other images in it.
    """
    if trace not in TRACES:
        raise ValueError(f"unknown trace {trace!r}; known: {', '.join(TRACES)}")
    if samples < 1:
        raise ValueError(f"samples must be at least 1, not {samples}")
    if not 0 <= seed < 2**64:
        raise ValueError(f"seed must lie in 0 to 2^64 - 1, not {seed}")
    figures, evaluations, count = [], 0, 0
    progress = tqdm(batches, disable=True if quiet else None, desc="ode")
    for batch, numbers in zip(progress, repeat(None) if indices is None else indices, strict=indices is not None):
        numbers = range(count, count + len(batch)) if numbers is None else numbers
        if len(numbers) != len(batch):
            raise ValueError(f"{len(numbers)} indices for a batch of {len(batch)}")
        count += len(batch)
        generators = [np.random.Generator(np.random.Philox(key=[seed, int(i)])) for i in numbers]
        x, dims, log_p = to_unit(batch), batch[0].numel(), []
        for _ in range(samples):
            draws = zip(*(_draw(g, x.shape[1:]) for g in generators))
            u, probe = (torch.from_numpy(np.stack(d)).float() for d in draws)
            probe = probe if trace == "hutchinson" else None
            one, calls = density(model, x + HALF_LEVEL * u, probe, rtol=rtol, atol=atol)
            log_p.append(one)
            evaluations += calls
        log_p = np.stack(log_p) + dims * math.log(2 * HALF_LEVEL)
        log_mass = log_p.mean(0) if trace == "hutchinson" else logsumexp(log_p, 0) - math.log(samples)
        figures.append(-log_mass / (dims * LN2))
    if not count:
        raise ValueError("no images")
    return OdeLikelihood(np.concatenate(figures), evaluations, samples, trace, tolerance=(rtol, atol))


def density(
    model, v: torch.Tensor, probes: torch.Tensor | None = None, *, rtol: float = 1e-5, atol: float = 1e-5
) -> tuple[np.ndarray, int]:
    """ln p(v) in nats, (B,) float64, of images v (B, C, H, W) on [-1, 1]; and the number of network evaluations.

    ``model``: model(z, gamma (B,)) -> eps_hat, log_m, with ``schedule`` and ``device``; z comes in v's dtype.
    ``probes``, like v: one vector e for each image, E e e^T = I, and the trace is e^T J e (Hutchinson); without them it
    is exact, at a vector-Jacobian product for each dimension. The tolerances are of z and of nats per dimension.
    """
    if not (rtol > 0 and atol > 0):
        raise ValueError(f"rtol and atol must be positive, not {rtol} and {atol}")
    if isinstance(model.schedule, Bands):
        raise ValueError("the likelihood under the flow is that of isotropic noise only")
    gamma_min, gamma_max = model.schedule.gamma_min, model.schedule.gamma_max
    batch, dims = len(v), v[0].numel()

    # The path is followed in z over gamma: z keeps its scale; y over gamma or s takes 1.4 to 1.8 times the calls.
    # The log-density travels per dimension, so that its tolerance does not shrink with the size of the image.
    def slope(gamma, state):
        sigma = float(alpha_sigma(gamma)[1])
        z = state.reshape(batch, dims + 1)[:, :dims]
        eps_hat, trace = _eps_and_trace(model, torch.from_numpy(z).to(v.dtype).view(v.shape), gamma, probes)
        # dz/dgamma = sigma/2 (eps_hat - sigma z), d log p(y)/dgamma = -sigma/2 tr(d eps_hat / d z)
        out = np.column_stack([sigma / 2 * (eps_hat - sigma * z), -sigma / 2 * trace / dims])
        if not np.isfinite(out).all():
            raise FloatingPointError(f"the model's output is not finite at gamma = {gamma:.3f}")
        return out.ravel()

    alpha_min, alpha_max = (float(alpha_sigma(gamma)[0]) for gamma in (gamma_min, gamma_max))
    start = np.column_stack([alpha_min * v.detach().double().cpu().numpy().reshape(batch, dims), np.zeros(batch)])
    path = solve_ivp(slope, (gamma_min, gamma_max), start.ravel(), rtol=rtol, atol=atol, t_eval=[gamma_max])
    if not path.success:
        raise RuntimeError(f"the flow could not be followed: {path.message}")
    end = path.y[:, -1].reshape(batch, dims + 1)
    log_p_z = -0.5 * (end[:, :dims] ** 2).sum(1) - dims / 2 * math.log(2 * math.pi)
    return log_p_z + dims * (math.log(alpha_max) - end[:, dims]), path.nfev


def _eps_and_trace(model, z: torch.Tensor, gamma: float, probes) -> tuple[np.ndarray, np.ndarray]:
    """eps_hat (B, D) and tr(d eps_hat / d z) (B,), float64; also where the caller is in inference mode."""
    with torch.inference_mode(False), torch.enable_grad():
        z = z.clone().to(model.device).contiguous(memory_format=torch.channels_last).requires_grad_(True)
        eps_hat = model(z, torch.full((len(z),), gamma, dtype=torch.float64, device=z.device))[0].flatten(1)
        if probes is None:
            trace = torch.zeros(len(z), dtype=torch.float64, device=z.device)
            basis = torch.eye(eps_hat.shape[1]).to(eps_hat)
            for d, e in enumerate(basis):
                row = torch.autograd.grad(eps_hat, z, e.expand_as(eps_hat), retain_graph=d < len(basis) - 1)[0]
                trace = trace + row.flatten(1)[:, d].double()
        else:
            e = probes.to(z).clone()
            product = torch.autograd.grad(eps_hat, z, e.flatten(1))[0]
            trace = (product.double() * e).flatten(1).sum(1)
        return eps_hat.detach().double().cpu().numpy(), trace.cpu().numpy()


def _draw(generator: np.random.Generator, shape) -> tuple[np.ndarray, np.ndarray]:
    """For one sample of one image: u uniform on [-1, 1) and a Rademacher vector, whether or not it is used."""
    return 2 * generator.random(shape) - 1, 2 * generator.integers(0, 2, shape) - 1
