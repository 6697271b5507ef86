"""Branch metrics of a trellis: what each label adds to log q/p, a few stages at a time, by one matrix product."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import lru_cache

import numpy as np
import torch

from ddpm.machine import has_fast_bf16

from .labels import MAX_ROWS, SPHERE_ROWS, Labels
from .trellis import Trellis, Values

TILE = 64  # products of matrices whose sides are no multiples of it can take three times as long
BLOCK = 256  # stages whose branch metrics are held at once
UNIT = 200  # a standard deviation; metrics are int16


class Metrics:
    """Stages (N, K) -> their branch metrics, a few stages after the other: blocks (s, K, n) int16.

    A block is valid until the next. Small integers, since most of the time goes into moving them: UNIT of them are the
    standard deviation of the metrics of that stage where they vary most. Rounding them costs no measurable efficiency.

    Of the n branches whose labels tell those of all, 0, 2, 4, ... come first, then 1, 3, 5, ...; see ``arriving``.
    """

    def __init__(self, trellis: Trellis, a: Values, b: Values):
        self.bits, self.rows = trellis.bits, trellis.rows
        self.ab = trellis.fold(a), trellis.fold(b)
        square_a, square_b = map(_squares, self.ab)
        widest = float((square_a + 2 * square_b).max().sqrt())
        self.scale = UNIT * max(1, trellis.max_memory / trellis.bits) / max(widest, 1e-30)
        self.features = _features(trellis.labels, self.ab[0].device)[: 2 * self.rows + -2 * self.rows % TILE]

    def __call__(self, stages: np.ndarray) -> Iterator[np.ndarray]:
        K, branches = stages.shape[1], self.features.shape[1]
        few = max(TILE // K, 1) * K
        rounded = _room("rounded", few, branches, self.features.new_empty(0, dtype=torch.int16))
        for product in self.products(stages, BLOCK):
            for part in product.flatten(0, 1).split(few):
                yield rounded[: len(part)].copy_(part).cpu().numpy().reshape(-1, K, branches)

    def products(self, stages: np.ndarray, most: int) -> Iterator[torch.Tensor]:
        """The same on the device and not yet rounded, (s, K, n), of about ``most`` stages at once."""
        K, device = stages.shape[1], self.features.device
        numbers = torch.from_numpy(stages.ravel()).to(device, non_blocking=True)
        branches, most = self.features.shape[1], max(most // K, 1) * K
        product = _room("product", most + -most % TILE, branches, self.features)
        for at in numbers.split(most):
            count = len(at)
            weights = self.features.new_zeros(count + -count % TILE, len(self.features))
            for j, values in enumerate(self.ab):
                weights[:count, j : 2 * self.rows : 2] = values.index_select(0, at).mul_(self.scale)
            torch.mm(weights, self.features, out=product[: len(weights)])
            yield product[:count].view(-1, K, branches)


def _squares(rows: torch.Tensor) -> torch.Tensor:
    """(N, n) -> (N,), the sums of squares; on the CPU without the room for all of them."""
    if rows.device.type == "cpu":
        return sum((row.square() for row in rows.T), start=rows.new_zeros(()))
    return rows.square().sum(1)


_kept = threading.local()


def _room(name: str, rows: int, columns: int, like: torch.Tensor) -> torch.Tensor:
    """Memory that this thread has used before, if it can: fresh memory costs as much as the work that is done in it."""
    room = getattr(_kept, name, None)
    if room is None or room.dtype != like.dtype or room.device != like.device or room.numel() < rows * columns:
        room = like.new_empty(rows * columns)
        setattr(_kept, name, room)
    return room[: rows * columns].view(rows, columns)


@lru_cache(maxsize=8)
def _features(labels: Labels, device: torch.device) -> torch.Tensor:
    """(2 rows, n): label entry j and its square less 1 in rows 2j and 2j + 1, for as many as there can be.

    In bf16 where that is fast: only the encoder computes metrics, so their rounding is no matter of agreement, and it
    costs no measurable efficiency.
    """
    branches = torch.arange(labels.distinct, device=device)
    table = labels(torch.cat([branches[0::2], branches[1::2]]), SPHERE_ROWS if labels.on_sphere else MAX_ROWS)
    dtype = torch.bfloat16 if has_fast_bf16(device) else table.dtype
    out = torch.empty(2 * len(table), table.shape[1], dtype=dtype, device=device)
    for j, row in enumerate(table):
        out[2 * j], out[2 * j + 1] = row, row**2 - 1
    return out


def arriving(metric: np.ndarray, states: int) -> tuple[np.ndarray, np.ndarray]:
    """Metrics (..., n) as ``Metrics`` has them -> those of branches 2w and of 2w + 1, (..., 1 or 2, 2^M / 2) by w.

    Where labels are opposed (n = 2^M), the second half of the states w has those of the first, swapped.
    """
    half = max(states // 2, 1)
    metric = metric.reshape(*metric.shape[:-1], 2, -1, half)
    if metric.shape[-2] == states // half:
        return metric[..., 0, :, :], metric[..., 1, :, :]
    return metric[..., 0, :], metric[..., ::-1, 0, :]
