"""The integers of a local network at a noise level between those that it has been made exact for.

What gamma says to a block is asked of the float network's embedding, exactly (mode.py); scales are those of the nearest
level that was observed.
"""

from __future__ import annotations

import numpy as np
import torch

from ddpm.diffusion.schedule import DATA_STD, unit_variance
from ddpm.networks.local import Block, LocalNet
from ddpm.networks.unet import gamma_embedding

from .mode import Exactly
from .tables import Z_UNIT

LEAST = 2.0**-6  # of a gain of the float network, from which others are inferred


@torch.inference_mode()
def said(net: LocalNet, gamma: float) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Of each block, by name: gain 1 + scale and shift, (C,)."""
    blocks = {name: block for name, block in net.named_modules() if isinstance(block, Block)}
    at = torch.tensor([gamma])
    with Exactly():
        embedded = net.embed(gamma_embedding(at, net.config.embedding))
        parts = {name: block.emb(embedded).chunk(2, -1) for name, block in blocks.items()}
        found = {name: (scale + 1, shift) for name, (scale, shift) in parts.items()}
    return {name: (gain[0].numpy(), shift[0].numpy()) for name, (gain, shift) in found.items()}


def tensors_at(net: LocalNet, tensors: dict[str, np.ndarray], gamma: float) -> dict[str, np.ndarray]:
    """The tensors with this one level in the place of all."""
    nearest = int(np.abs(tensors["gammas"] - gamma).argmin())
    known, here = said(net, float(np.float32(tensors["gammas"][nearest]))), said(net, gamma)
    made = {name: value[nearest : nearest + 1] for name, value in tensors.items() if name.endswith(".scales")}
    made["gammas"] = np.array([gamma])
    made["first.scale"] = np.array([unit_variance(gamma, DATA_STD)], np.float32) * np.float32(Z_UNIT)
    for name, (gain, shift) in here.items():
        known_gain, known_shift = (tensors[f"{name}.{part}"][nearest].astype(np.float32) for part in ("gain", "shift"))
        sure = np.abs(known[name][0]) >= LEAST
        by = known_gain / np.where(sure, known[name][0], np.float32(1))  # over the factors that weights have taken up
        made[name + ".gain"] = np.where(sure, gain * by, known_gain)[None]
        made[name + ".shift"] = np.where(sure, shift * by, known_shift)[None]
    return tensors | made
