"""Muon (Jordan et al. 2024) for many matrices: those of one shape are made orthogonal together.

The algorithm and its settings are torch's. A network has tens of matrices of few shapes; one after the other, their
products are too small to keep a GPU busy. A CPU is faster with one at a time.
"""

from __future__ import annotations

import math

import torch


class Muon(torch.optim.Muon):
    """torch's ``Muon``, scaled as by Liu et al. 2025 (eq. 4), of parameters that have gradients in every step."""

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            alike: dict[torch.Size, list[torch.nn.Parameter]] = {}
            for p in group["params"]:
                alike.setdefault(p.shape, []).append(p)
            for shape, matrices in alike.items():
                gradients = [p.grad for p in matrices]
                momenta = [self._momentum(p) for p in matrices]
                torch._foreach_lerp_(momenta, gradients, 1 - group["momentum"])
                ahead = torch.stack(torch._foreach_lerp(gradients, momenta, group["momentum"]))  # Nesterov
                update = orthogonal(ahead, group["ns_coefficients"], group["ns_steps"], group["eps"]).to(ahead.dtype)
                torch._foreach_mul_(matrices, 1 - group["lr"] * group["weight_decay"])
                torch._foreach_add_(matrices, update.unbind(), alpha=-0.2 * math.sqrt(max(shape)) * group["lr"])

    def _momentum(self, p: torch.nn.Parameter) -> torch.Tensor:
        state = self.state[p]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(p)
        return state["momentum_buffer"]


def orthogonal(matrices: torch.Tensor, coefficients: tuple[float, float, float], steps: int, eps: float):
    """(n, rows, columns) -> U V^T of each matrix U S V^T, nearly, in bfloat16: Newton-Schulz iterations."""
    a, b, c = coefficients
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.bfloat16()
    x = x.mT if tall else x
    x = x / x.flatten(1).norm(dim=1).clamp(min=eps)[:, None, None]
    for _ in range(steps):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x
