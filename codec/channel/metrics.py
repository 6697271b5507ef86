"""Branch metrics of a trellis: what each label adds to log q/p, a few stages at a time, by a matrix product
for each group of dimensions."""

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
    """Stages (N, K) -> their branch metrics, a few stages after the other: blocks (s, K, kinds, groups, size) int16.

    A block is valid until the next. A metric is the sum over groups of what ``Labels.places`` says, and the kinds are
    those of ``Labels.tables``. Small integers, since most of the time goes into moving them: UNIT of them are the
    standard deviation of the metrics of that stage where they vary most. Rounding them costs no measurable efficiency.
    """

    def __init__(self, trellis: Trellis, a: Values, b: Values):
        self.labels = trellis.labels
        self.ab = trellis.fold(a), trellis.fold(b)
        square_a, square_b = map(_squares, self.ab)
        widest = float((square_a + 2 * square_b).max().sqrt())
        self.scale = UNIT * max(1, trellis.max_memory / trellis.bits) / max(widest, 1e-30)
        self.device = self.ab[0].device
        self.features = _features(self.labels, self.device)
        self.groups, self.size = self.labels.groups, self.labels.size
        self.kinds = self.features[0].shape[1] // self.size

    def __call__(self, stages: np.ndarray) -> Iterator[np.ndarray]:
        K = stages.shape[1]
        few = max(TILE // K, 1) * K
        for products in self._products(stages, BLOCK):
            rounded = _room("rounded", few, self.kinds * self.groups * self.size, torch.empty(0, dtype=torch.int16))
            rounded = rounded.view(few, self.kinds, self.groups, self.size)
            for i in range(0, len(products[0]), few):
                parts = [p[i : i + few].view(-1, self.kinds, self.size) for p in products]
                for k, part in enumerate(parts):
                    rounded[: len(part), :, k].copy_(part)
                yield rounded[: len(parts[0])].cpu().numpy().reshape(-1, K, self.kinds, self.groups, self.size)

    def products(self, stages: np.ndarray, most: int) -> Iterator[torch.Tensor]:
        """On the device and not yet rounded, of about ``most`` stages at once: (s, K, n), summed over groups. Branches
        0, 2, 4, ... come first, then 1, 3, 5, ...; of kinds 0 and 2, then of 1 and 3."""
        places = self.labels.places().to(self.device)
        for products in self._products(stages, most):
            found = sum(p.view(len(p), self.kinds, self.size).index_select(2, at) for p, at in zip(products, places))
            assert isinstance(found, torch.Tensor)
            order = found[:, [0, 2, 1, 3]] if self.kinds == 4 else found
            yield order.reshape(-1, stages.shape[1], order[0].numel())

    def _products(self, stages: np.ndarray, most: int) -> Iterator[list[torch.Tensor]]:
        """Of each group (s K, kinds size)."""
        K, wide = stages.shape[1], self.features[0].shape[1]
        numbers = torch.from_numpy(stages.ravel()).to(self.device, non_blocking=True)
        most = max(most // K, 1) * K
        rooms = [_room(f"product {k}", most + -most % TILE, wide, self.features[0]) for k in range(self.groups)]
        for at in numbers.split(most):
            count, products = len(at), []
            chosen = [values.index_select(0, at).mul_(self.scale) for values in self.ab]
            for k, (features, room) in enumerate(zip(self.features, rooms)):
                weights = features.new_zeros(count + -count % TILE, len(features))
                for j, values in enumerate(chosen):
                    part = values[:, k :: self.groups]
                    weights[:count, j : 2 * part.shape[1] : 2] = part
                torch.mm(weights, features, out=room[: len(weights)])
                products.append(room[:count])
            yield products


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
def _features(labels: Labels, device: torch.device) -> list[torch.Tensor]:
    """Of each group (r, kinds size): label entry j and its square less 1 in rows 2j and 2j + 1, for as many as there
    can be, and then 0 to a whole TILE.

    In bf16 where that is fast: only the encoder computes metrics, so their rounding is no matter of agreement, and it
    costs no measurable efficiency.
    """
    out, dtype = [], torch.bfloat16 if has_fast_bf16(device) else torch.float32
    for table in labels.tables(SPHERE_ROWS if labels.on_sphere else MAX_ROWS, device):
        kinds, rows, size = table.shape
        entries = torch.stack([table, table**2 - 1], 2).permute(1, 2, 0, 3).reshape(2 * rows, kinds * size)
        out.append(torch.nn.functional.pad(entries, (0, 0, 0, -2 * rows % TILE)).to(dtype))
    return out
