"""What known pixels say of those that follow: p(x | z_0) need not be a product over pixels.

The errors x - mean that z_0 leaves resemble each other in the colours of a pixel and in its neighbours, the more the
surer the network is: there p has narrowed down what z_0's noise, which is independent, would leave open. So pixels are
coded in groups, one colour after the other and of each first the even places of a checkerboard, then the odd ones. The
mean of a pixel moves by a weighted sum of the errors, in their standard deviations, of the 3x3 neighbours in all
colours that are known by then, and its deviation is narrowed. Weights and narrowing depend on the deviation; they are
measured once for each model (codec/calibration/context.py). All is integers, so all machines agree.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np

from codec.lossy.tables import Context, Group
from ddpm.exact.normal import powers_of_two

from .entropy import CHUNK, FRACTIONS, HIGHEST, LOWEST, OCTAVE

FINE = 12  # standard deviations, and what they are the inverse of, count 2^-FINE
WEIGHT = 12  # weights count 2^-WEIGHT
UNIT = FINE + 4  # errors count 2^-UNIT standard deviations, as they come: means are sixteenths
MOST = 8 << UNIT  # errors beyond say no more


@lru_cache(maxsize=1)
def deviations() -> tuple[np.ndarray, np.ndarray]:
    """Of a pixel, with its rounding, in 2^-FINE, for the scales from LOWEST on; and 2^FINE over it, both int64."""
    std = np.sqrt(powers_of_two(2 * LOWEST, 2 * HIGHEST, OCTAVE)[::2] + 1 / 12)
    fine, inverse = (np.rint(v * 2**FINE).astype(np.int64) for v in (std, 1 / std))
    return fine, inverse


class Sight:
    """Pixels (B, C, H, W) between belief and knowledge: what each group is coded under, given all before it.

    means: (n,) sixteenths of a grey level; scales: (n,) eighths of an octave; within what entropy.py takes, if there is
    a context. Without one there is one group, of all. The values of a group are (B, m).
    """

    def __init__(self, context: Context | None, means: np.ndarray, scales: np.ndarray, shape: tuple[int, ...]):
        self.context, self.shape = context, shape
        self.means, self.scales = (v.reshape(shape).astype(np.int16) for v in (means, scales))
        self.x = np.zeros(shape, np.uint8)
        B, C, H, W = shape
        self.groups: list[Group | None] = [None]
        if context is not None:
            self.errors = np.zeros((B, C, H + 2, W + 2), np.int32)  # 0 where a pixel is not known, and beyond the edge
            self.odd = np.add.outer(np.arange(H), np.arange(W)) % 2 == 1
            self.groups = [g for g in context.groups if g[1] == 0 or H * W > 1]

    def predict(self, group: Group | None) -> tuple[np.ndarray, np.ndarray]:
        """Means and scales of a group, int16."""
        means, scales = self.members(self.means, group), self.members(self.scales, group)
        if group is None:
            return means, scales
        assert self.context is not None  # which the group is of
        weights, narrower = self.context.groups[group]
        classes = np.searchsorted(self.context.edges, scales, "right")
        std, _ = deviations()
        shift = UNIT + WEIGHT + FINE - 4  # to sixteenths
        for here, rows, places in self._strips(group):
            total = np.zeros(classes[:, here].shape, np.int64)
            for (colour, below, right), weight in weights.items():
                near = self.errors[:, colour, 1 + rows.start + below : 1 + rows.stop + below, 1 + right :]
                total += weight[classes[:, here]] * near[..., : self.shape[3]][:, places]
            total *= std[scales[:, here] - LOWEST]
            moved = means[:, here] + (total + (1 << shift - 1) >> shift)
            means[:, here] = np.clip(moved, 0, 255 * FRACTIONS)
        return means, np.clip(scales + narrower[classes], LOWEST, HIGHEST).astype(np.int16)

    def update(self, group: Group | None, values: np.ndarray) -> None:
        """The pixels of a group, (B, m) or flat."""
        if group is None:
            self.x[:] = values.reshape(self.shape)
            return
        values = values.reshape(self.shape[0], -1)
        _, inverse = deviations()
        for here, rows, places in self._strips(group):
            at = np.s_[:, group[0], rows]
            known, scales = values[:, here], self.scales[at][:, places]
            error = (FRACTIONS * known.astype(np.int64) - self.means[at][:, places]) * inverse[scales - LOWEST]
            self.x[at][:, places] = known
            inner = self.errors[:, group[0], 1 + rows.start : 1 + rows.stop, 1:-1]
            inner[:, places] = np.clip(error, -MOST, MOST)

    def predictions(self, x: np.ndarray) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Of known pixels, (n,): values, means and scales of each group in turn."""
        x, out = x.reshape(self.shape), []
        for group in self.groups:
            values = self.members(x, group)
            out.append((values, *self.predict(group)))
            self.update(group, values)
        return out

    def members(self, values: np.ndarray, group: Group | None) -> np.ndarray:
        """Those of a group: (B, C, H, W) -> (B, m), a copy."""
        if group is None:
            return values.reshape(self.shape[0], -1).copy()
        return values[:, group[0]][:, self.odd == group[1]]

    def _strips(self, group: Group) -> Iterator[tuple[slice, slice, np.ndarray]]:
        """Some rows at a time: which of a group's values they have, the rows, and the group's places in them."""
        H, W = self.shape[2:]
        begin, height = 0, max(1, CHUNK // W)
        for top in range(0, H, height):
            rows = slice(top, min(top + height, H))
            places = self.odd[rows] == group[1]
            end = begin + int(places.sum())
            yield slice(begin, end), rows, places
            begin = end
