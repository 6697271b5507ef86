"""An exact network for the noise levels of a model's coding tables, see docs/exact.md."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from tqdm import tqdm

from codec.lossy.basis import Cosines
from codec.lossy.denoise import coarse
from codec.lossy.tables import CodingTables
from ddpm.diffusion.likelihood import to_unit
from ddpm.exact.quantise import Quantiser
from ddpm.models.model import DDPM
from ddpm.networks.local import LocalNet


@torch.inference_mode()
def exact_tensors(
    model: DDPM, tables: CodingTables, batches: Sequence[torch.Tensor], *, seed=0, quiet=False
) -> dict[str, np.ndarray]:
    """The tensors of a model's network at the noise levels where its code evaluates it; batches (B, 3, H, W) uint8."""
    assert isinstance(model.net, LocalNet)
    levels = [(gamma, scale) for gamma, scale in zip(tables.gammas, tables.scales) if math.isfinite(gamma)]
    generator, quantiser = torch.Generator().manual_seed(seed), Quantiser(model.net)
    for gamma, scale in tqdm(levels, disable=True if quiet else None, desc="observe"):
        below, seen = gamma, []
        for batch in batches:
            x, basis = to_unit(batch), Cosines(tables, (batch.shape[2], batch.shape[3]), grey=False)
            z = basis.seen(basis.step(gamma, gamma - 1), x, torch.randn(x.shape, generator=generator))
            z, below = coarse(z, gamma, scale)
            seen.append(model.padded(z))
        quantiser.observe(below, seen, model.unit_variance(torch.tensor([below])))
    return quantiser.tensors()
