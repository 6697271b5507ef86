"""Noise by frequency: a schedule of its own for each band of a cosine transform.

At an ideal channel a bit is worth what it takes from the squared error, and that is the same everywhere only if
coordinates whose variance lies below the water level get none (reverse water-filling, Cover & Thomas, 10.3.3).
Isotropic noise gives them some. Here the forward process is

    z_b = alpha_b(t) x_b + sigma_b(t) eps,   SNR_b(t) = alpha_b^2 / sigma_b^2 = e^-t ratio_b(t)

in the coordinates of cosines.py; t is the gamma of the isotropic process that has all ratios 1. A ratio of 0 is a band
of which nothing has been sent. In the end all ratios are 1. Every schedule that rises in each coordinate gives a bound
(Kingma et al. 2021, section 4): its terms, and its limit, the integral of 1/2 sum_b SNR_b' |x_b - x_hat_b|^2.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np

from .rounded import exp, power

RINGS = 11  # bands of a colour: radial frequency, rounded, in half periods per 8 pixels
COLOURS = 3
BANDS = COLOURS * RINGS
LARGEST = 256  # side of a block, and scale of a look


@dataclass(frozen=True)
class Bands:
    """nodes: descending t, gamma_max to gamma_min. ratios: at each node those of all BANDS, linear in t in between.

    variance: (BANDS,), of x in each band. block: side of the cosines' blocks. sharpness: see ``view``. looks: pairs of
    t and a scale, both falling: above that t the network sees the picture so many times smaller (looks.py). ValueError
    where an SNR would fall, or does not end at that of gamma_min.
    """

    kind: ClassVar[str] = "bands"
    nodes: tuple[float, ...]
    ratios: tuple[tuple[float, ...], ...]
    variance: tuple[float, ...]
    block: int = 8
    sharpness: float = 0.0
    looks: tuple[tuple[float, int], ...] = ()

    def __post_init__(self):
        for name, values in vars(self).copy().items():  # lists, as JSON has them
            object.__setattr__(self, name, as_tuples(values))
        shape = len(self.nodes), BANDS
        if np.shape(self.ratios) != shape or np.shape(self.variance) != (BANDS,) or len(self.nodes) < 2:
            raise ValueError(f"a schedule of bands has {BANDS} ratios at each of its nodes, and as many variances")
        if not np.isfinite([*self.nodes, *self.variance, self.sharpness]).all() or not 1 <= self.block <= LARGEST:
            raise ValueError(f"numbers of bands are finite, and blocks have a side of 1 to {LARGEST}")
        if not (np.diff(self.nodes) < 0).all() or not self._ratios.min() >= 0 or not min(self.variance) > 0:
            raise ValueError("nodes of bands fall; ratios and variances do not lie below 0")
        falls = np.diff([*self.looks, (self.gamma_min, 1)], axis=0) < 0
        if not falls.all() or any(t >= self.gamma_max or scale % 1 or scale > LARGEST for t, scale in self.looks):
            raise ValueError("looks of bands fall, in t and in scale, to the full size")
        if (self._ratios[-1] != 1).any():
            raise ValueError("in the end all bands have the noise of gamma_min")
        if not (self._ratios[:-1] + self._slopes >= 0).all() or not (self._ratios[1:] + self._slopes >= 0).all():
            raise ValueError("an SNR that falls")

    @cached_property
    def even(self) -> bool:
        """Whether noise is the same in all bands at any t."""
        return bool((self._ratios == 1).all())

    @property
    def gamma_max(self) -> float:
        return float(self.nodes[0])

    @property
    def gamma_min(self) -> float:
        return float(self.nodes[-1])

    def gammas(self, steps: int) -> np.ndarray:
        """The steps + 1 descending t (float64) of a chain with that many transitions."""
        return np.linspace(self.gamma_max, self.gamma_min, steps + 1)

    def scale(self, t: float) -> int:
        """How many times smaller the network sees the picture at t."""
        return next((scale for above, scale in self.looks if t > above), 1)

    def reach(self, scale: int) -> tuple[float, float]:
        """From where to where in t it has that scale, (high, low); ValueError if nowhere."""
        tops, scales = [self.gamma_max, *(t for t, _ in self.looks)], [*(s for _, s in self.looks), 1]
        if scale not in scales:
            raise ValueError(f"the network never sees pictures {scale} times smaller")
        i = scales.index(scale)
        return tops[i], tops[i + 1] if i + 1 < len(tops) else self.gamma_min

    @cached_property
    def _ratios(self) -> np.ndarray:
        return np.asarray(self.ratios, np.float64)

    @cached_property
    def _slopes(self) -> np.ndarray:
        """d ratio / d(-t) between nodes."""
        return np.diff(self._ratios, axis=0) / -np.diff(self.nodes)[:, None]

    def _between(self, t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Ratios and their slopes at t (...), (..., BANDS) each; beyond the ends ratios stay as they are there."""
        i = np.clip(np.searchsorted(-np.asarray(self.nodes), -t, side="right") - 1, 0, len(self.nodes) - 2)
        since = np.clip(np.asarray(self.nodes)[i] - t, 0, -np.diff(self.nodes)[i])
        return self._ratios[i] + since[..., None] * self._slopes[i], self._slopes[i]

    def snr(self, t) -> np.ndarray:
        """SNR of each band at t (...), (..., BANDS) float64."""
        t = np.asarray(t, np.float64)
        return exp(-t)[..., None] * self._between(t)[0]

    def snr_slope(self, t) -> np.ndarray:
        """d SNR / d(-t), what twice the bound's integrand weighs squared errors of x with; as ``snr``."""
        t = np.asarray(t, np.float64)
        ratios, slopes = self._between(t)
        return exp(-t)[..., None] * (ratios + slopes)

    def view(self, t) -> np.ndarray:
        """What z_b is multiplied with for the network, as ``snr``, so that it looks like isotropic noise at t.

        z_b / alpha_b is x_b with noise of variance 1 / SNR_b. Times sqrt(f), f = SNR_b (v + s) / (1 + v SNR_b), v the
        band's variance and s = e^t, it has the variance v + s of x with isotropic noise; times f it is the best linear
        guess at that. With f^((1 + sharpness) / 2) it is something in between. What is noise alone gets the size of an
        isotropic one, less ``sharpness`` of it. All of it is times alpha(t); where all ratios are 1, so is the view.
        """
        if np.ndim(t) == 0 and np.isinf(t):
            return np.full(BANDS, 1 - self.sharpness)
        snr, s, v = self.snr(t), exp(np.asarray(t, np.float64))[..., None], np.asarray(self.variance)
        of_noise = (1 - self.sharpness) * np.sqrt(v + s)
        some = np.where(snr > 0, snr, 1.0)
        f = some * (v + s) / (1 + v * some)
        seen = np.where(snr > 0, power(f, (1 + self.sharpness) / 2) * np.sqrt((1 + some) / some), of_noise)
        return seen / np.sqrt(1 + s)


def rings(block: int, size: tuple[int, int]) -> np.ndarray:
    """(H, W) uint8: the ring of each coordinate of a colour."""

    def frequency(n):
        i = np.arange(n)
        length = np.minimum(block, n - i // block * block)
        return i % block * (8 / length)

    radius = np.hypot(frequency(size[0])[:, None], frequency(size[1])[None])
    return np.minimum(np.rint(radius), RINGS - 1).astype(np.uint8)


def sizes_of(block: int, size: tuple[int, int], colours: int = COLOURS) -> np.ndarray:
    """(colours * RINGS,) int64: how many coordinates of a picture each band has; without the room for it."""
    (rows, last_rows), (columns, last_columns) = (divmod(n, block) for n in size)
    of_a_colour = np.zeros(RINGS, np.int64)
    for h, count_h in ((block, rows), (last_rows, 1)):
        for w, count_w in ((block, columns), (last_columns, 1)):
            if h and w:
                of_a_colour += count_h * count_w * np.bincount(rings(block, (h, w)).ravel(), minlength=RINGS)
    return np.tile(of_a_colour, colours)


def as_tuples(values):
    return tuple(map(as_tuples, values)) if isinstance(values, (list, tuple)) else values


EVEN = Bands((1.0, 0.0), ((1.0,) * BANDS,) * 2, (1.0,) * BANDS)  # isotropic noise, at any t
