"""The variational bound of a model on data in continuous time (T = infinity), by Monte Carlo over t."""

from __future__ import annotations

import math

import torch
from tqdm import tqdm

from .gaussian import prior_kl_nats
from .likelihood import LN2, discretized_gaussian_nats, to_unit
from .model import DDPM
from .schedule import alpha_sigma


@torch.inference_mode()
def bound(model: DDPM, batches, samples: int = 2, seed: int = 0, quiet: bool = False) -> dict:
    """Mean bits/dim over pictures, term by term, with the standard error of the total over pictures.

    batches: tensors (B, 3, H, W) uint8. total = prior + diffusion + decoder: KL(q(z_T|x) || N(0, I)); the limit
    (gamma_max - gamma_min)/2 E|eps - eps_hat|^2 with x_hat cut to [-1, 1]; and -log2 p(x | z_0) (Ho et al., eq. 13).
    ``samples`` values of t per picture, evenly spaced over all pictures and samples of a batch, randomly offset.
    """
    generator = torch.Generator().manual_seed(seed)
    schedule, rows = model.schedule, []
    span = schedule.gamma_max - schedule.gamma_min
    randn = lambda x: torch.randn(x.shape, generator=generator).to(x.device)  # noqa: E731

    def look(x, gamma):
        alpha, sigma = (torch.from_numpy(v).float().view(-1, 1, 1, 1).to(x.device) for v in alpha_sigma(gamma))
        z = (alpha * x + sigma * randn(x)).contiguous(memory_format=torch.channels_last)
        eps_hat, log_m = model(z, gamma.to(x.device).float())
        x_hat = (z - sigma * eps_hat) / alpha
        return x_hat, log_m, alpha, sigma

    for batch in tqdm(batches, disable=True if quiet else None, desc="bound"):
        x = to_unit(batch).to(model.device)
        n = len(x)
        prior = prior_kl_nats(x, schedule.gamma_max).mean((1, 2, 3))
        diffusion = 0
        t = (torch.rand(1, generator=generator, dtype=torch.float64) + torch.arange(n * samples) / (n * samples)) % 1
        t = t[torch.randperm(n * samples, generator=generator)]
        for part in (schedule.gamma_min + span * t).split(n):
            x_hat, _, alpha, sigma = look(x, part)
            error = (alpha / sigma) ** 2 * (x - x_hat.clamp(-1, 1)) ** 2
            diffusion = diffusion + span / 2 * error.mean((1, 2, 3)) / samples
        x_hat, log_m, alpha, sigma = look(x, torch.full((n,), schedule.gamma_min, dtype=torch.float64))
        decoder = discretized_gaussian_nats(x, x_hat, 0.5 * log_m + (sigma / alpha).log()).mean((1, 2, 3))
        rows.append(torch.stack([prior + diffusion + decoder, prior, diffusion, decoder], 1).double().cpu() / LN2)
    rows = torch.cat(rows)
    total, prior, diffusion, decoder = rows.mean(0).tolist()
    return {
        "total": total,
        "stderr": float(rows[:, 0].std() / math.sqrt(len(rows))) if len(rows) > 1 else None,
        "prior": prior,
        "diffusion": diffusion,
        "decoder": decoder,
        "images": len(rows),
        "samples": samples,
    }
