"""AdamW, or beside it Muon for the weights of hidden layers.

Muon (Jordan et al. 2024) makes the update of a weight matrix orthogonal, so that no direction of it is left behind. The
matrix of a convolution is that of its outputs by all that they see. Steps are scaled as by Liu et al. 2025 (eq. 4),
so that one learning rate serves both.
"""

from __future__ import annotations

import torch
from torch import nn

from .muon import Muon

ENDS = ("first", "last", "embed", "emb")  # layers between the hidden ones and pixels, or gamma


def is_hidden(name: str, weight: torch.Tensor) -> bool:
    """Whether a parameter of the network is a matrix of a hidden layer."""
    return weight.dim() >= 2 and not set(name.split(".")) & set(ENDS)


def as_matrix(weight: torch.Tensor) -> torch.Tensor:
    """(out, in, ...) -> (out, in * ...), sharing its memory."""
    return (weight.permute(0, 2, 3, 1) if weight.dim() == 4 else weight).view(len(weight), -1)


class Optimizer:
    """Of all parameters of a model. Weights of convolutions must lie in memory as channels_last."""

    def __init__(self, model: nn.Module, lr: float, betas, weight_decay: float, muon: bool):
        named = list(model.named_parameters())
        self.parameters = [p for _, p in named]
        self.hidden = [p for name, p in named if muon and is_hidden(name, p)]
        others = {*self.parameters} - {*self.hidden}
        self.parts: list[torch.optim.Optimizer] = [
            torch.optim.AdamW(
                [p for p in self.parameters if p in others], lr, betas, weight_decay=weight_decay, fused=True
            )
        ]
        self.matrices = [nn.Parameter(as_matrix(p.detach())) for p in self.hidden]
        if self.matrices:
            self.parts.append(Muon(self.matrices, lr, weight_decay))

    def step(self, lr: float) -> None:
        """One step along the gradients, which are then dropped."""
        for matrix, weight in zip(self.matrices, self.hidden):
            gradient = weight.grad
            assert gradient is not None
            if weight.dim() == 4:
                gradient = gradient.contiguous(memory_format=torch.channels_last)
            matrix.grad = as_matrix(gradient)
        for part in self.parts:
            for group in part.param_groups:
                group["lr"] = lr
            part.step()
        for p in self.parameters + self.matrices:
            p.grad = None

    def moments(self) -> dict[str, torch.Tensor]:
        """What it remembers: "index of the parameter.name" -> tensor."""
        found = {}
        for i, p in enumerate(self.parameters):
            part, key = self._home(p)
            found |= {f"{i}.{k}": v for k, v in part.state.get(key, {}).items()}
        return found

    def restore(self, moments: dict[str, torch.Tensor]) -> None:
        """Go on from ``moments``."""
        for name, value in moments.items():
            i, _, k = name.partition(".")
            part, key = self._home(self.parameters[int(i)])
            part.state[key][k] = value.to(memory_format=torch.channels_last) if value.dim() == 4 else value

    def _home(self, p):
        """Which part has this parameter, and by what key."""
        at = next((i for i, h in enumerate(self.hidden) if h is p), None)
        return (self.parts[0], p) if at is None else (self.parts[1], self.matrices[at])
