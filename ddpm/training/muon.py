"""Muon (Jordan et al. 2024) for many matrices: those of one shape are made orthogonal together.

The algorithm and its settings are those of ``torch.optim.Muon``, which older versions of torch do not have. A network
has tens of matrices of few shapes; one after the other, their products are too small to keep a GPU busy. A CPU is
faster with one at a time.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import _foreach_lerp as foreach_lerp  # pyright: ignore[reportPrivateImportUsage]  # as torch's optimizers do
from torch import _foreach_lerp_ as foreach_lerp_  # pyright: ignore[reportPrivateImportUsage]  # as torch's optimizers do
from torch import _foreach_mul_ as foreach_mul_  # pyright: ignore[reportPrivateImportUsage]  # as torch's optimizers do

from ddpm.groups import grouped

COEFFICIENTS = (3.4445, -4.775, 2.0315)  # of the quintic whose iteration takes singular values to about 1
ITERATIONS, EPS = 5, 1e-7


class Muon(torch.optim.Optimizer):
    """Of matrices that have gradients in every step; steps are scaled as by Liu et al. 2025 (eq. 4)."""

    def __init__(self, matrices, lr: float, weight_decay: float, momentum: float = 0.95):
        super().__init__(matrices, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})
        for p in matrices:
            self.state[p]["momentum_buffer"] = torch.zeros_like(p)

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """By the gradients that are there; no closure is called."""
        for group in self.param_groups:
            alike = grouped(group["params"], lambda p: (p.shape, p.device if p.is_cuda else id(p)))
            for (shape, _), matrices in alike.items():
                gradients = [p.grad for p in matrices if p.grad is not None]
                momenta = [self.state[p]["momentum_buffer"] for p in matrices]
                foreach_lerp_(momenta, gradients, 1 - group["momentum"])
                ahead = foreach_lerp(gradients, momenta, group["momentum"])  # Nesterov
                update = [orthogonal(ahead[0])] if len(ahead) == 1 else orthogonal(torch.stack(ahead)).unbind()
                foreach_mul_(matrices, 1 - group["lr"] * group["weight_decay"])
                for p, u in zip(matrices, update):
                    p.add_(u, alpha=-0.2 * math.sqrt(max(shape)) * group["lr"])


def orthogonal(matrices: torch.Tensor) -> torch.Tensor:
    """(..., rows, columns), one or n -> U V^T of each matrix U S V^T, nearly, in bfloat16: Newton-Schulz iterations."""
    a, b, c = COEFFICIENTS
    add_product = torch.addmm if matrices.dim() == 2 else torch.baddbmm
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.bfloat16()
    x = x.mT if tall else x
    x = x / x.flatten(-2).norm(dim=-1).clamp(min=EPS)[..., None, None]
    for _ in range(ITERATIONS):
        gram = x @ x.mT
        x = add_product(x, add_product(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x
