"""The steps of the code as terms of a bound: what the codec would send if channel and entropy coder were ideal."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from tqdm import tqdm

from codec.lossless import adaptive
from codec.lossless.adaptive import handover
from codec.lossless.likelihood import distortion, pixels
from codec.lossy.basis import Cosines
from codec.lossy.denoise import denoise
from codec.lossy.setting import Setting
from codec.lossy.tables import CodingTables, tables_of
from ddpm.diffusion.bound import Bound, Terms, bound
from ddpm.diffusion.gaussian import Step, kl_nats
from ddpm.diffusion.likelihood import LN2, to_levels
from ddpm.diffusion.reverse import Reverse
from ddpm.images.batches import Batch
from ddpm.models.model import DDPM


class CodeTerms(Terms):
    """KL(q || p) of the codec's own steps, in nats per coded dimension, for pictures (B, 3, H, W) of one size.

    There is no prior: the first step sends z_T itself. The distortion, -ln p(x | z_0), is for lossless files only;
    where the chain hands over to a code that learns (adaptive.py) it is the length of that, all bytes. whole: the
    chain goes to its end, as in archives.
    """

    def __init__(self, setting: Setting, whole: bool = False):
        self.reverse, self.model, self.tables = Reverse(setting.model), setting.model, setting.tables
        self.process, self.setting = self.reverse.process, setting
        self.plan, self.grey = setting.plan, setting.grey
        self.levels = (None if whole else handover(setting)) or setting.plan.steps
        self.basis = Cosines(self.tables, setting.size, self.grey)
        self.steps = [self.basis.step(t, s) for t, s in pairwise(self.plan.gammas[: self.levels + 1])]
        self.context = self.tables.of(self.grey).context

    def prior(self, x):
        return torch.zeros(len(x), device=x.device)

    def term(self, k, x, eps):
        step, level = self.steps[k], self.plan.stops[k]
        x_hat, m = denoise(self.model, self.tables, level, self.basis.seen(step, x, eps))
        kl = kl_nats(self.basis.delta(step, x, x_hat) ** 2, self.basis.extra_variance(level, step.gain, m))
        return kl.flatten(1).mean(1), x_hat

    def drawn(self, u, x, eps):
        raise NotImplementedError("the steps of the code are few: compute them all")

    def distortion(self, x, eps):
        if len(self.steps) < self.plan.steps:
            return self.learned(x, eps)
        last = Step(*self.plan.gammas[-2:])  # where noise is the same in all coordinates
        z = self.process.coordinates(last.alpha_s * x + last.sigma_s * eps)
        mean, log_std = pixels(self.reverse, last, z, self.grey)
        return distortion(self.context, x[:, : mean.shape[1]], mean, log_std), mean

    def learned(self, x, eps):
        """What the pixels take where the chain hands over, and x_hat there."""
        k, channels = len(self.steps), 1 if self.grey else 3
        z = self.basis.seen(self.basis.step(*self.plan.gammas[k : k + 2]), x, eps)
        x_hat, _ = denoise(self.model, self.tables, self.plan.stops[k], z)
        pictures = to_levels(x[:, :channels]).permute(0, 2, 3, 1).cpu().numpy()
        lengths = [
            8 * len(adaptive.encode(self.setting, k, seen, picture[..., 0] if self.grey else picture))
            for seen, picture in zip(z, pictures)
        ]
        nats = x.new_tensor(lengths, dtype=torch.float64) * (LN2 / pictures[0].size)
        return nats, x_hat.mean(1, keepdim=True) if self.grey else x_hat


def bounds_of_code(model: DDPM, batches: Sequence[Batch], *, seed: int = 0, quiet: bool = False) -> list[Bound]:
    """What the steps of the code cost an ideal channel, of each batch: pictures of one size, all grey or none.

    Uncalibrated for a model without tables.
    """
    tables = tables_of(model)
    settings = (Setting.of(model, tables, (batch.x.shape[2], batch.x.shape[3]), grey=batch.grey) for batch in batches)
    terms = [CodeTerms(setting) for setting in settings]
    total = sum((len(t.steps) + 1) * len(batch) for t, batch in zip(terms, batches))
    with tqdm(total=total, disable=True if quiet else None, desc="bound") as bar:
        how = {"seed": seed, "progress": bar.update}
        return [bound(t, [batch.x], numbers=[batch.numbers], **how) for t, batch in zip(terms, batches)]


class ContextTerms:
    """Terms on levels of the model's schedule, but for the distortion, which is that of the model's code."""

    def __init__(self, terms: Terms):
        self.terms, self.context = terms, CodingTables.context_of(terms.reverse.model, grey=False)

    def __getattr__(self, name: str):
        return getattr(self.terms, name)

    def distortion(self, x: torch.Tensor, eps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        last = self.terms.steps[-1]
        mean, log_std = self.terms.reverse.pixels(last, last.alpha_s * x + last.sigma_s * eps)
        return distortion(self.context, x, mean, log_std), mean
