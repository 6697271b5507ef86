"""Weights rounded to integers one after the other, each making up for the errors of those before it.

GPTQ (Frantar et al. 2022): of a layer's outputs the squared error is (w - q) H (w - q), H the second moments of what it
reads. Rounding one weight changes what is best for the rest, by the inverse of H. An order of magnitude less error than
rounding each weight for itself.
"""

from __future__ import annotations

import torch

from .convolution import LIMIT

SHRINKS = (1.3, 1.1, 1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7)  # of the range of weights, of which the best is taken
DAMPING = 0.01  # of the mean second moment, added to all
TOGETHER = 64  # weights whose errors are passed on at once


def scales_of(weight: torch.Tensor, moments: torch.Tensor) -> torch.Tensor:
    """(O,): for each output of weight (O, I, k, k) the unit of least error of its weights, each rounded for itself.

    moments: (I,), mean squares of what is read.
    """
    largest = weight.abs().amax((1, 2, 3)).clamp(min=1e-12)
    units = torch.stack([largest * shrink / 127 for shrink in SHRINKS])
    errors = []
    for unit in units[:, :, None, None, None]:
        q = (weight / unit).round().clamp(-127, 127)
        errors.append(((q * unit - weight).square() * moments[:, None, None]).sum((1, 2, 3)))
    return units.gather(0, torch.stack(errors).argmin(0)[None])[0]


def rounded(weight: torch.Tensor, unit: torch.Tensor, second: torch.Tensor, most: int = 127) -> torch.Tensor:
    """weight (O, I, k, k) in multiples of ``unit`` (O,), from -most to most, float64. second: (I k k, I k k), second
    moments of what each weight is multiplied with."""
    w, n = (weight / unit[:, None, None, None]).flatten(1).double(), second.shape[0]
    second = second.double() + torch.eye(n, dtype=torch.float64) * DAMPING * second.diagonal().mean()
    order = second.diagonal().argsort(descending=True)
    w, second = w[:, order], second[order][:, order]
    inverse = torch.linalg.cholesky(torch.cholesky_inverse(torch.linalg.cholesky(second)), upper=True)
    q = torch.zeros_like(w)
    for first in range(0, n, TOGETHER):
        last = min(n, first + TOGETHER)
        errors = w.new_zeros(len(w), last - first)
        for i in range(first, last):
            q[:, i] = w[:, i].round().clamp(-most, most)
            errors[:, i - first] = (w[:, i] - q[:, i]) / inverse[i, i]
            w[:, i + 1 : last] -= errors[:, i - first, None] * inverse[i, i + 1 : last]
        w[:, last:] -= errors @ inverse[first:last, last:]
    return q[:, order.argsort()].view_as(weight)


def sums_fit(q: torch.Tensor, zero: int) -> torch.Tensor:
    """(O,): whether no sum of products of q (O, I, k, k) with inputs from -zero to 255 - zero reaches LIMIT."""
    return q.abs().sum((1, 2, 3)) * max(zero, 255 - zero) < LIMIT
