"""What training makes small: the bound, read off one noised batch term by term, or the paper's simple objective.

    L = L_0 + L_T + L_inf     reconstruction, latent, diffusion            (Kingma et al. 2021, eq. 11)

Means over images, in bits/dim unless said otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ddpm.diffusion.bands import Bands
from ddpm.diffusion.gaussian import eps_from, x_from
from ddpm.diffusion.likelihood import LN2, discretized_gaussian_nats
from ddpm.diffusion.looks import coarse, enlarged, shrunk
from ddpm.diffusion.process import Banded
from ddpm.diffusion.schedule import LinearBeta, Schedule

from .settings import TrainConfig


@dataclass(frozen=True)
class Noised:
    """z = alpha x + sigma eps, and what the network says of it, float32: eps_hat and log m.

    Pictures and maps are (B, C, H, W), alpha and sigma (B, 1, 1, 1). A slice is of some of the images.
    """

    x: torch.Tensor
    eps: torch.Tensor
    alpha: torch.Tensor
    sigma: torch.Tensor
    z: torch.Tensor
    eps_hat: torch.Tensor
    log_m: torch.Tensor

    def __getitem__(self, images: slice) -> Noised:
        return Noised(**{name: values[images] for name, values in vars(self).items()})

    @property
    def error(self) -> torch.Tensor:
        """(eps - eps_hat)^2, (B, C, H, W)."""
        return (self.eps - self.eps_hat) ** 2


def noised(model, x: torch.Tensor, gamma: torch.Tensor, generator: torch.Generator) -> Noised:
    """z ~ q(z | x) at gamma (B,) and the network's answer."""
    eps = torch.randn(x.shape, generator=generator, device=x.device)
    g = gamma[:, None, None, None]
    alpha, sigma = torch.sigmoid(-g).sqrt(), torch.sigmoid(g).sqrt()
    z = alpha * x + sigma * eps
    eps_hat, log_m = model(z.contiguous(memory_format=torch.channels_last), gamma)
    return Noised(x, eps, alpha, sigma, z, eps_hat.float(), log_m.float())


def reconstruction(at: Noised) -> torch.Tensor:
    """L_0 = E -ln p(x | z_0), a discretized Gaussian about x_hat (Ho et al. 2020, eq. 13); ``at`` gamma_min."""
    x_hat = x_from(at.z, at.eps_hat, at.alpha, at.sigma)
    log_std = 0.5 * at.log_m + (at.sigma / at.alpha).log()
    return discretized_gaussian_nats(at.x, x_hat, log_std).mean() / LN2


def own_error(log_m: torch.Tensor, error: torch.Tensor) -> torch.Tensor:
    """E -ln N(eps; eps_hat, m) but for a constant, in nats/dim: least where m is the conditional mean of the error."""
    return 0.5 * (log_m + error.detach() * torch.exp(-log_m)).mean()


class BoundLoss:
    """Bits/dim of the continuous-time bound, one sample per image; L_0 on the first images of the batch.

    With gamma uniform in [gamma_min, gamma_max], L = (gamma_max - gamma_min)/2 E|eps - eps_hat|^2 + L_0 (nats); m is
    fitted to the squared error by its own Gaussian likelihood, whose minimum is the conditional mean.
    """

    def __init__(self, config: TrainConfig, schedule: Schedule):
        self.config, self.schedule = config, schedule

    def gammas(self, n: int, u: torch.Tensor, device) -> torch.Tensor:
        """(n,) levels: one random offset and equal spacing (Kingma et al. 2021, appendix I.1)."""
        t = (u + torch.arange(n, device=device) / n) % 1
        return self.schedule.gamma_min + t * (self.schedule.gamma_max - self.schedule.gamma_min)

    def __call__(
        self, model, x: torch.Tensor, generator: torch.Generator
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The loss on x (B, C, H, W) on [-1, 1], and what it is made of by name."""
        n0 = max(1, round(self.config.decoder_share * len(x)))
        u = torch.rand(1, generator=generator, device=x.device)
        gamma = self.gammas(len(x) - n0, u, x.device)
        gamma = torch.cat([torch.full((n0,), self.schedule.gamma_min, device=x.device), gamma]).float()
        batch = noised(model, x, gamma, generator)
        first, others = batch[:n0], batch[n0:]

        # Reconstruction: L_0 = E -ln p(x | z_0).
        l0 = reconstruction(first)
        # Latent: L_T = KL(q(z_T | x) || N(0, I)) has nothing to learn, since the schedule is given.
        # Diffusion: L_inf = (gamma_max - gamma_min)/2 E|eps - eps_hat|^2, gamma uniform in between.
        weight, error = (self.schedule.gamma_max - self.schedule.gamma_min) / 2, others.error
        diffusion = weight * error.mean() / LN2

        # Early terms are a small part of the bound, but all of a short file: focus weighs by the expected error.
        expected = others.log_m.detach().exp().mean((1, 2, 3), keepdim=True)
        emphasis = (expected.mean() / expected) ** self.config.focus
        focused = weight * (emphasis * error).mean() / LN2
        variance = own_error(others.log_m, error) / LN2
        loss = focused + l0 + self.config.variance_weight * variance
        return loss, {"bits_per_dim": diffusion + l0, "diffusion": diffusion, "l0": l0, "variance_nll": variance}


class SimpleLoss(BoundLoss):
    """The paper's L_simple (eq. 14): E|eps - eps_hat|^2 over its T levels; m fitted beside it."""

    def __init__(self, config: TrainConfig, schedule: Schedule):
        super().__init__(config, schedule)
        levels = schedule.all_gammas() if isinstance(schedule, LinearBeta) else schedule.gammas(999)
        self.levels = torch.tensor(levels, dtype=torch.float32)

    def __call__(self, model, x, generator):
        index = torch.randint(len(self.levels), (len(x),), generator=generator, device=x.device)
        batch = noised(model, x, self.levels.to(x.device)[index], generator)
        error = batch.error
        variance = own_error(batch.log_m, error)
        return error.mean() + self.config.variance_weight * variance, {"mse": error.mean(), "variance_nll": variance}


class BandLoss(BoundLoss):
    """As the bound's, of noise by frequency: L = (t_max - t_min)/2 E sum_b SNR_b' |x_b - x_hat_b|^2 + L_0 (nats).

    Half of what is made small is that, half the squared error of the picture, in which bands count that are not sent.
    Crops are of as many sizes as the network sees pictures in, and of each it sees the levels that are seen so.
    """

    def __init__(self, config: TrainConfig, schedule: Schedule):
        super().__init__(config, schedule)
        assert isinstance(schedule, Bands)
        self.process = Banded(schedule)
        self.sizes = [config.crop] if isinstance(config.crop, int) else [*config.crop]
        self.size, scales = min(self.sizes), {scale for _, scale in schedule.looks} | {1}
        if {size / self.size for size in self.sizes} != scales or len(scales) < len(self.sizes):
            raise ValueError(f"crops of as many sizes as there are looks, {self.size} times {sorted(scales)}")

    def __call__(self, model, x, generator):
        scale = max(1, x.shape[2] // self.size)
        high, low = self.process.bands.reach(scale)
        n0 = max(1, round(self.config.decoder_share * len(x))) if scale == 1 else 0
        u = torch.rand(1, generator=generator, device=x.device)
        t = low + (high - low) * ((u + torch.arange(len(x) - n0, device=x.device) / (len(x) - n0)) % 1)
        t = torch.cat([torch.full((n0,), self.schedule.gamma_min, device=x.device), t]).float()
        eps = torch.randn(x.shape, generator=generator, device=x.device)
        with torch.autocast(x.device.type, enabled=False):
            at, coordinates = self.process.at(t, x), self.process.coordinates(x)
            seen = self.process.pixels(at.view * (at.alpha * coordinates + at.sigma * eps))
            small, below, x_small = (*coarse(seen, t, scale), shrunk(x, scale)) if scale > 1 else (seen, t, x)
        eps_hat, log_m = (v.float() for v in model(small.contiguous(memory_format=torch.channels_last), below))
        alpha, sigma = (torch.sigmoid(g).sqrt().view(-1, 1, 1, 1) for g in (-below, below))
        batch = Noised(x_small, eps_from(small, x_small, alpha, sigma), alpha, sigma, small, eps_hat, log_m)
        l0 = reconstruction(batch[:n0]) if n0 else torch.zeros((), device=x.device)
        others, share = batch[n0:], len(self.sizes)  # each size has its part of all levels
        x_hat = x_from(others.z, others.eps_hat, others.alpha, others.sigma)
        with torch.autocast(x.device.type, enabled=False):
            shown = enlarged(x_hat, scale, x.shape[2:]) if scale > 1 else x_hat
            by_band = (self.process.coordinates(shown) - coordinates[n0:]) ** 2
        slope, plain, weight = at.slope[n0:], (-t[n0:]).exp().view(-1, 1, 1, 1), share * (high - low) / 2
        diffusion, l0 = weight * (slope * by_band).mean() / LN2, share * l0
        expected = others.log_m.detach().exp().mean((1, 2, 3), keepdim=True)
        emphasis = (expected.mean() / expected) ** self.config.focus
        focused = weight * (emphasis * (slope + plain) / 2 * by_band).mean() / LN2
        variance = own_error(others.log_m, (others.alpha / others.sigma) ** 2 * (x_hat - others.x) ** 2) / LN2
        loss = focused + l0 + self.config.variance_weight * variance
        return loss, {"bits_per_dim": diffusion + l0, "diffusion": diffusion, "l0": l0, "variance_nll": variance}


OBJECTIVES = {"bound": BoundLoss, "simple": SimpleLoss}


def loss_for(config: TrainConfig, schedule: Schedule) -> BoundLoss:
    """The objective that the settings name, for the noise at hand."""
    if isinstance(schedule, Bands):
        if config.objective != "bound":
            raise ValueError("noise by frequency is trained on the bound")
        return BandLoss(config, schedule)
    return OBJECTIVES[config.objective](config, schedule)
