"""A network evaluated a few rows at a time, to the same result as at once: memory stays bounded, nothing is done twice.

A network whose outputs see only their neighbourhood says in terms of three operations what it needs beyond the rows at
hand: ``conv3``, a 3x3 convolution; ``pairs``, whole pairs of rows; ``add``, two maps of which the second comes later.
``Whole`` takes the maps as they are. ``Rolling`` keeps the few rows that each operation still waits for.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import torch


class Whole:
    """All rows at once. Maps are (B, H, W, C)."""

    def conv3(self, layer: Any, x: torch.Tensor, arithmetic: Any) -> torch.Tensor:
        """The convolution (3x3, padding 1) of x, by a layer that the arithmetic knows."""
        return arithmetic.conv(layer, x, 1)

    def pairs(self, key, x: torch.Tensor) -> torch.Tensor:
        """x, in whole pairs of rows."""
        return x

    def add(self, key, early: torch.Tensor, late: torch.Tensor, plus=None) -> torch.Tensor:
        """early + late, rows of which may lag behind; ``late`` may be used up.

        plus(early, late, out, at): what adds instead; ``late`` are its rows from ``at`` on.
        """
        if plus:
            return plus(early, late, torch.empty_like(early), 0)
        return early + late if torch.is_grad_enabled() or late.dtype != early.dtype else late.add_(early)

    def in_parts(self, x: torch.Tensor, work: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
        """work(x), which may be of a few rows of x after the other."""
        return work(x)


class Rolling(Whole):
    """For calls with the next rows of every map, any number of them, one call after the other; then with ``last`` set.

    What comes out lags behind what goes in, and is complete after the last call. Operations are told apart by their
    ``layer`` or ``key``.
    """

    def __init__(self, most: int):
        self.most = most  # positions at once; some convolutions work on copies of nine times their input
        self.kept: dict[object, torch.Tensor] = {}
        self.waiting: dict[object, deque[torch.Tensor]] = {}
        self.last = False

    def conv3(self, layer, x, arithmetic):
        kept = self.kept.get(layer)
        before = 1 if kept is None else kept.shape[1]
        rows = before + x.shape[1] + self.last
        room = x.new_empty(len(x), rows, *x.shape[2:], dtype=arithmetic.dtype(x))
        room[:, :before] = arithmetic.zero(layer) if kept is None else kept
        arithmetic.put(room[:, before : before + x.shape[1]], x)
        room[:, rows - self.last :] = arithmetic.zero(layer)
        x, self.kept[layer] = room, room[:, -2:].clone()
        if x.shape[1] < 3:
            return x.new_zeros(len(x), 0, x.shape[2], layer.out_channels, dtype=arithmetic.sums(x))
        most = self._rows(x)
        parts = [arithmetic.conv(layer, x[:, i : i + most + 2], (0, 1)) for i in range(0, x.shape[1] - 2, most)]
        return torch.cat(parts, 1) if len(parts) > 1 else parts[0]

    def pairs(self, key, x):
        kept = self.kept.get((key, "odd"))
        x = torch.cat([kept, x], 1) if kept is not None and kept.shape[1] else x
        whole = x.shape[1] // 2 * 2
        self.kept[key, "odd"] = x[:, whole:].clone()
        return x[:, :whole]

    def add(self, key, early, late, plus=None):
        plus = plus or (lambda early, late, out, at: torch.add(early, late, out=out))
        out, at = late if late.dtype == early.dtype else torch.empty_like(late, dtype=early.dtype), 0
        waiting = self.waiting.setdefault(key, deque())
        waiting.append(early)
        while waiting and at < late.shape[1]:
            part = waiting.popleft()
            n = min(part.shape[1], late.shape[1] - at)
            plus(part[:, :n], late[:, at : at + n], out[:, at : at + n], at)
            at += n
            if n < part.shape[1]:
                waiting.appendleft(part[:, n:].clone())
        return out

    def in_parts(self, x, work):
        # In the end all rows come at once that coarser levels have held back.
        parts, last, out = x.split(self._rows(x), 1), self.last, []
        for i, part in enumerate(parts):
            self.last = last and i == len(parts) - 1
            out.append(work(part))
        return torch.cat(out, 1) if len(out) > 1 else out[0]

    def _rows(self, x: torch.Tensor) -> int:
        """So many of x at once."""
        return max(1, self.most // (len(x) * x.shape[2]))
