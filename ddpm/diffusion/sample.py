"""Sampling: pictures out of noise, down the levels of a chain (Ho et al. 2020, Algorithm 2 and section 4.4).

``ancestral`` draws z_s from p(z_s | z_t) at every step; ``flow`` follows the probability-flow ODE (DDIM with eta = 0:
Song et al. 2021, eq. 13), where all chance lies in z_T. Both evaluate x_hat on every level, and the last one, at z_0,
is the picture. Pictures are (B, C, H, W) on [-1, 1]. ``at`` says how much of a chain is still to come: 1 at z_T,
0 at z_0.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch

from .noise import Noise
from .reverse import Reverse


@dataclass(frozen=True)
class Moment:
    """What a chain knows at one level: z (B, C, H, W), in the coordinates of the process, and the picture x_hat."""

    gamma: float
    z: torch.Tensor
    x_hat: torch.Tensor


def position(gammas: Sequence[float] | np.ndarray, at: float) -> int:
    """Index of the level where ``at`` (1: all, 0: nothing) of the chain is still to come."""
    return round((1 - at) * (len(gammas) - 1))


@torch.inference_mode()
def walk(
    reverse: Reverse, z: torch.Tensor, gammas: Sequence[float] | np.ndarray, noise: Noise | None = None
) -> Iterator[Moment]:
    """From z at gammas[0] down to gammas[-1]: ``ancestral`` with noise (Ho et al. 2020, Algorithm 2), else ``flow``."""
    levels, process = [*map(float, gammas)], reverse.process
    for gamma, below in pairwise([*levels, levels[-1] - 1]):  # the last x_hat does not depend on where a step leads
        step = process.over(process.step(gamma, below), z)
        x_hat, log_m, eps_hat = reverse.evaluate(step, z)
        yield Moment(gamma, z, process.pixels(x_hat))
        if noise is None:
            z = step.flow(x_hat, eps_hat)
        else:
            std = step.std_q * (1 + reverse.extra_variance(step, log_m)) ** 0.5
            z = step.mean(z, x_hat) + std * noise.draw(z.device)


def decode(
    reverse: Reverse,
    z: torch.Tensor,
    gammas: Sequence[float] | np.ndarray,
    noise: Noise | None,
    *,
    method: str = "ancestral",
    keep: Sequence[int] = (-1,),
    batch: int = 64,
    progress=None,
) -> torch.Tensor:
    """(B, len(keep), C, H, W) on the CPU: x_hat at the levels gammas[k], k in ``keep``, of the chains that start at z.

    At most ``batch`` images go through the network together; ``progress(images)`` is called after each evaluation.
    """
    keep = [range(len(gammas))[k] for k in keep]
    done = []
    for start in range(0, len(z), batch):
        part, kept = slice(start, start + batch), {}
        drawn = noise[part] if noise and method == "ancestral" else None
        for k, moment in enumerate(walk(reverse, z[part], gammas, drawn)):
            if k in keep:
                kept[k] = moment.x_hat.cpu()
            if progress:
                progress(len(moment.z))
        done.append(torch.stack([kept[k] for k in keep], 1))
    return torch.cat(done)


def generate(
    reverse: Reverse,
    gammas: Sequence[float] | np.ndarray,
    shape: Sequence[int],
    seed: int,
    numbers: Sequence[int],
    *,
    batch: int = 64,
    device: torch.device | str = "cpu",
    **how,
) -> Iterator[torch.Tensor]:
    """The images of a seed with these numbers, ``shape`` (C, H, W), from z_T ~ N(0, I): (b, len(keep), C, H, W) each.

    What comes is the same for every ``batch``. ``how``: method, keep, progress, as in ``decode``.
    """
    for start in range(0, len(numbers), batch):
        noise = Noise(seed, numbers[start : start + batch], shape)
        yield decode(reverse, noise.draw(device), gammas, noise, batch=batch, **how)


def shared(
    reverse: Reverse,
    gammas: Sequence[float] | np.ndarray,
    shape: Sequence[int],
    seed: int,
    at: Sequence[float],
    *,
    number: int,
    device: torch.device | str = "cpu",
    progress=None,
    **how,
) -> torch.Tensor:
    """Images that share z_t (Ho et al. 2020, figure 7): (len(at), 1 + number, C, H, W).

    Image 0 of the seed gives z_t at every level of ``at``; it comes first in its row, and ``number`` draws of x given
    z_t follow. ``how``: batch, as in ``decode``.
    """
    stops = [position(gammas, a) for a in at]
    trunk, frozen = Noise(seed, [0], shape), {}
    for k, moment in enumerate(walk(reverse, trunk.draw(device), gammas, trunk)):
        if progress:
            progress(1)
        if k in stops:
            frozen[k] = moment.z
        if k == max(stops):
            break
    rows = []
    for k in stops:
        z = frozen[k].expand(number, -1, -1, -1)
        noise = Noise(seed, range(1, number + 1), shape)
        drawn = decode(reverse, z, gammas[k:], noise, progress=progress, **how)
        rows.append(torch.cat([reverse.process.pixels(frozen[k]).cpu(), drawn[:, 0]]))
    return torch.stack(rows)


def encode_to(reverse: Reverse, x: torch.Tensor, gamma: float, eps: torch.Tensor) -> torch.Tensor:
    """z_t ~ q(z_t | x) = N(alpha_t x, sigma_t^2 I), where eps is the noise, in the coordinates of the process; x and
    eps (B, C, H, W)."""
    process = reverse.process
    x = process.coordinates(x)
    step = process.over(process.step(gamma, gamma - 1), x)
    return step.alpha_t * x + step.sigma_t * eps


def interpolate(
    reverse: Reverse,
    gammas: Sequence[float] | np.ndarray,
    pair: torch.Tensor,
    seed: int,
    at: Sequence[float],
    *,
    weights: Sequence[float],
    **how,
) -> torch.Tensor:
    """Between two pictures, pair (2, C, H, W) (Ho et al. 2020, figure 8): (len(at), len(weights), C, H, W).

    Both go to the same level with the same noise; (1 - lambda) z + lambda z' is decoded for every lambda of ``weights``
    with one noise too, so that nothing but lambda differs along a row. ``how``: method, batch, progress.
    """
    rows, weight = [], torch.tensor(weights, device=pair.device, dtype=pair.dtype).view(-1, 1, 1, 1)
    for k in [position(gammas, a) for a in at]:
        noise = Noise(seed, [0] * len(weights), pair.shape[1:])
        eps = noise.draw(pair.device)  # the same for all
        z, other = (encode_to(reverse, x[None], gammas[k], eps) for x in pair)
        rows.append(decode(reverse, (1 - weight) * z + weight * other, gammas[k:], noise, **how)[:, 0])
    return torch.stack(rows)
