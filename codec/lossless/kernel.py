"""Pixels one by one, each under a mixture of predictions that learns from all before it: the loops, compiled.

The decoder (``read``) needs each pixel to expect the next; the encoder knows them all, so that expecting (``foresee``)
and writing (``write``) are done in two threads, by the same steps. All is float64 in one order, so all machines agree;
see adaptive.py for what it is.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from ddpm.compiled import compiled

from .mixture import BEST, BITS, FITS, PHASES, PREDICTIONS, Value, code_value, values_of
from .regression import add, fade_and_add, length, multiply, solve

PAD = 3  # pixels beyond the edges that are looked at
ROWS = PAD + 1  # that are remembered
NEAR = np.array(  # what is known of a colour: so many rows above, so many pixels to the left
    [
        *((1, 0), (0, 1), (1, 1), (1, -1), (2, 0), (0, 2), (1, 2), (2, 1), (2, -1), (1, -2), (2, 2), (2, -2)),
        *((3, 0), (0, 3), (3, 1), (3, -1), (1, 3), (1, -3)),
    ]
)
AROUND = np.array(
    [(0, 0), (0, 1), (1, 0), (1, 1), (1, -1), (0, -1), (-1, 0), (0, 2), (2, 0)]
)  # of the belief: (dy, dx)
CROSS = np.array([(0, 0), (0, 1), (1, 0), (-1, 0), (0, -1)])  # of z
OTHER_NEAR, OTHER_AROUND = 8, 5  # how many of NEAR and AROUND of each other colour, its own value or z among the latter

SEGMENT, FADE, BESIDE, FAR = 16, 0.9, 0.7, 0.002  # columns that learn together; by row; of those beside; of all
NEARBY, LATELY, LONG = 0, 1, 2  # the fits; the last is one for each phase, since chroma is often at half the resolution
MEMORY = (0.998, 0.9998)  # what a pixel still counts in the latter two when one more has come
FIRST_REFIT, LONGER, REFITS = 8, 0.25, (32, 64)  # pixels from one solution to the next, growing up to
FLOOR = 1.0  # squared grey levels
SHIFTS = 8 * 8 * 4
LEAST_SCALE, SPREAD = 0.25, 0.65  # grey levels; of a logistic distribution for an error of 1 on average


class Picture(NamedTuple):
    """pixels: (C, H, W) uint8. belief, seen: (C, H + 2 PAD, W + 2 PAD), std: (C, H, W), float32, in grey levels."""

    pixels: np.ndarray
    belief: np.ndarray
    seen: np.ndarray
    std: np.ndarray


class Learner(NamedTuple):
    """What is learned of one picture, of C colours and F features, from the pixels themselves.

    value: what is expected of the next. known: pixels of this row and those above, (C, ROWS, W + 2 PAD). errors:
    absolute ones of the predictions in this row and the one above, (C, PREDICTIONS, 2, W + 2). sums: of regressions
    over all pixels (regression.py), (C, LONG + PHASES, length), the first unused; near_sums: by segments. weights: (C,
    LONG + PHASES, F). refit: pixels since the last solution, and from it to the next, (C, 2, LONG + PHASES). shift:
    sums of errors and their number by class, (C, 2, SHIFTS). ratio: errors over deviations that the network expects,
    (C, 2). The rest is room.
    """

    value: Value
    known: np.ndarray
    errors: np.ndarray
    sums: np.ndarray
    near_sums: np.ndarray
    weights: np.ndarray
    refit: np.ndarray
    shift: np.ndarray
    ratio: np.ndarray
    features: np.ndarray
    products: np.ndarray
    triangle: np.ndarray
    solution: np.ndarray


def features_of(colours: int) -> int:
    """How many there are."""
    others = 2 if colours == 3 else 0
    return len(NEAR) + len(AROUND) + len(CROSS) + others * (1 + OTHER_NEAR + OTHER_AROUND) + 2


def learner_of(colours: int, width: int) -> Learner:
    """Of a picture of which nothing is known."""
    F, segments, fits = features_of(colours), -(-width // SEGMENT) + 2, LONG + PHASES
    shapes = {
        "known": (colours, ROWS, width + 2 * PAD),
        "errors": (colours, PREDICTIONS, 2, width + 2),
        "sums": (colours, fits, length(F)),
        "near_sums": (colours, segments, length(F)),
        "weights": (colours, fits, F),
        "refit": (colours, 2, fits),
        "shift": (colours, 2, SHIFTS),
        "ratio": (colours, 2),
        "features": (F + 1,),
        "products": (length(F),),
        "triangle": (F, F),
        "solution": (F,),
    }
    first = {"errors": 4.0, "ratio": 1.0}
    learner = Learner(values_of(), **{name: np.full(shape, first.get(name, 0.0)) for name, shape in shapes.items()})
    learner.refit[:, 1] = FIRST_REFIT
    return learner


@compiled
def gather(c, y, x, picture, learner):
    """The features of a pixel, as differences from what is believed of it."""
    belief, seen, known, f = picture.belief, picture.seen, learner.known, learner.features
    base, n = belief[c, y + PAD, x + PAD], 0
    for k in range(len(NEAR)):
        f[n] = known[c, (y - NEAR[k, 0]) % ROWS, x + PAD - NEAR[k, 1]] - base
        n += 1
    for k in range(len(AROUND)):
        f[n] = belief[c, y + PAD + AROUND[k, 0], x + PAD + AROUND[k, 1]] - base
        n += 1
    for k in range(len(CROSS)):
        f[n] = seen[c, y + PAD + CROSS[k, 0], x + PAD + CROSS[k, 1]] - base
        n += 1
    for other in range(len(belief)):
        if other != c:
            of_other = belief[other, y + PAD, x + PAD]
            f[n] = known[other, y % ROWS, x + PAD] - of_other if other < c else 0.0
            f[n + 1] = seen[other, y + PAD, x + PAD] - of_other
            n += 2
            for k in range(OTHER_NEAR):
                f[n] = known[other, (y - NEAR[k, 0]) % ROWS, x + PAD - NEAR[k, 1]] - of_other
                n += 1
            for k in range(1, OTHER_AROUND):
                f[n] = belief[other, y + PAD + AROUND[k, 0], x + PAD + AROUND[k, 1]] - of_other
                n += 1
    f[n] = 1.0
    f[n + 1] = 0.1 * picture.std[c, y, x]
    now = learner.value.now
    now[0], now[1], now[2] = base, picture.std[c, y, x], y * picture.pixels.shape[2] + x + 1


@compiled
def phase_at(y, x):
    """Where a pixel lies in its block of 2x2."""
    return y % 2 * 2 + x % 2


@compiled
def fit_near(c, x, learner):
    """Least squares of the pixels nearby."""
    sums, there, segment = learner.products, learner.near_sums[c], x // SEGMENT + 1
    here, before, after, rest = there[segment], there[segment - 1], there[segment + 1], learner.sums[c, LATELY]
    for j in range(len(sums)):
        here[j] *= FADE
        sums[j] = here[j] + BESIDE * (before[j] + after[j]) + FAR * rest[j]
    solve(sums, learner.triangle, learner.solution, learner.weights[c, NEARBY])


@compiled
def fit_at(k, y, x):
    """Which of its kind is this pixel's."""
    return LONG + phase_at(y, x) if k == LONG else k


@compiled
def predict(c, y, x, learner):
    """Means of the predictions."""
    f, mu, now, fits = learner.features, learner.value.means, learner.value.now, 0.0
    for k in range(FITS):
        s, weights = 0.0, learner.weights[c, fit_at(k, y, x)]
        for i in range(len(weights)):
            s += weights[i] * f[i]
        mu[k] = now[0] + s
        fits += mu[k]
    fits /= FITS
    left, above = learner.known[c, y % ROWS, x + PAD - 1], learner.known[c, (y - 1) % ROWS, x + PAD]
    corner = learner.known[c, (y - 1) % ROWS, x + PAD - 1]
    low, high = min(left, above), max(left, above)
    mu[FITS] = left + above - corner
    if corner >= high or corner <= low:
        mu[FITS] = min(max(mu[FITS], low), high)
    kind = int(min(7.0, abs(left - above) / 4)) * 8 + int(min(7.0, now[1] * 1.5))
    kind = kind * 4 + (1 if left > fits else 0) + (2 if above > fits else 0)
    best = fits + learner.shift[c, 0, kind] / (learner.shift[c, 1, kind] + 2)
    mu[BEST] = mu[FITS + 4] = best
    mu[FITS + 2] = mu[FITS + 3] = now[0]
    now[3], now[4] = fits, kind


@compiled
def scale(c, y, x, learner):
    """The scales of the predictions, from errors nearby."""
    now, before, std, scales = y % 2, (y + 1) % 2, learner.value.now[1], learner.value.scales
    for i in range(PREDICTIONS):
        e = learner.errors[c, i]
        total = e[before, x] + 1.3 * e[before, x + 1] + 0.8 * e[before, x + 2] + 1.3 * e[now, x]
        parts = 4.4
        if c > 0:
            total += 1.2 * learner.errors[c - 1, i, now, x + 1]
            parts += 1.2
        if c > 1:
            total += 0.6 * learner.errors[0, i, now, x + 1]
            parts += 0.6
        scales[i] = max(LEAST_SCALE, total / parts * SPREAD + 0.06)
    for i in range(2):
        expected = max(0.2, std * learner.ratio[c, i] * 0.6 + 0.05)
        scales[FITS + 3 + i] = expected if i == 0 else max(0.2, math.sqrt(expected * scales[BEST]))


@compiled
def learn(c, y, x, pixel, learner):
    """From a pixel that is known now."""
    f, mu, now = learner.features, learner.value.means, learner.value.now
    base, std, fits, kind = now[0], now[1], now[3], int(now[4])
    learner.known[c, y % ROWS, x + PAD] = pixel
    for i in range(PREDICTIONS):
        learner.errors[c, i, y % 2, x + 1] = abs(pixel - mu[i])
    for i in range(2):
        error = min(4.0, abs(pixel - mu[FITS + 3 + i]) / (std + 0.1))
        learner.ratio[c, i] += 0.002 * (error - learner.ratio[c, i])
    shift = learner.shift[c]
    shift[0, kind] += pixel - fits
    shift[1, kind] += 1
    if shift[1, kind] > 255:
        shift[:, kind] *= 0.5
    width, target, segment = learner.value.scales[BEST], pixel - base, x // SEGMENT + 1
    weight = 1 / (width * width + FLOOR)
    f[-1] = target
    multiply(f, weight, learner.products)
    add(learner.near_sums[c, segment], learner.products)
    for k in range(LATELY, FITS):
        fit, refit = fit_at(k, y, x), learner.refit[c]
        fade_and_add(learner.sums[c, fit], MEMORY[k - LATELY], learner.products)
        refit[0, fit] += 1
        if refit[0, fit] >= refit[1, fit]:
            refit[0, fit], refit[1, fit] = 0, min(refit[1, fit] + LONGER, REFITS[k - LATELY])
            solve(learner.sums[c, fit], learner.triangle, learner.solution, learner.weights[c, fit])


@compiled
def contexts(c, y, x, learner):
    """In which places what this value is was counted: by what is expected, and by the other colours, here and as they
    differed from this one to the left and above."""
    known, keys, row, above = learner.known, learner.value.keys, y % ROWS, (y - 1) % ROWS
    left, up = int(known[c, row, x + PAD - 1]), int(known[c, above, x + PAD])
    other = others = 0
    if c > 0:
        other = others = int(known[c - 1, row, x + PAD])
        left, up = left - int(known[c - 1, row, x + PAD - 1]), up - int(known[c - 1, above, x + PAD])
    if c > 1:
        others = other << BITS | int(known[0, row, x + PAD])
    left, up = left + 512, up + 512
    keys[0] = int(learner.value.means[BEST] + 0.5)
    keys[1] = others
    keys[2] = other << 10 | left
    keys[3] = other << 10 | up
    keys[4] = (others << 10 | left) if c > 0 else (up << 10 | left)


@compiled
def begin(y, picture, learner):
    """A row: what is not known yet is believed, so are edges."""
    for c in range(len(picture.pixels)):
        for row in range(y - PAD if y == 0 else y, y + 1):
            learner.known[c, row % ROWS] = picture.belief[c, row + PAD]


@compiled
def expect(c, y, x, picture, learner):
    """All that is expected of a value before it is known."""
    gather(c, y, x, picture, learner)
    if x % SEGMENT == 0:
        fit_near(c, x, learner)
    predict(c, y, x, learner)
    scale(c, y, x, learner)
    contexts(c, y, x, learner)


@compiled
def foresee(rows, picture, learner, notes):
    """The encoder knows the pixels: what will be expected of those of some rows is noted first, and written after."""
    C, _, W = picture.pixels.shape
    value, i = learner.value, 0
    for y in range(rows[0], rows[1]):
        begin(y, picture, learner)
        for x in range(W):
            for c in range(C):
                expect(c, y, x, picture, learner)
                notes.means[i], notes.scales[i], notes.keys[i] = value.means, value.scales, value.keys
                notes.now[i] = value.now
                learn(c, y, x, int(picture.pixels[c, y, x]), learner)
                i += 1


@compiled
def write(rows, pixels, notes, mixer, tape):
    """Those rows."""
    C, _, W = pixels.shape
    value, i = mixer.value, 0
    for y in range(rows[0], rows[1]):
        for x in range(W):
            for c in range(C):
                value.means[:], value.scales[:], value.keys[:] = notes.means[i], notes.scales[i], notes.keys[i]
                value.now[:] = notes.now[i]
                code_value(c, phase_at(y, x), int(pixels[c, y, x]), mixer, tape)
                i += 1


@compiled
def read(rows, picture, learner, mixer, tape):
    """The same rows from the tape; what the mixer expects is what the learner does."""
    C, _, W = picture.pixels.shape
    for y in range(rows[0], rows[1]):
        begin(y, picture, learner)
        for x in range(W):
            for c in range(C):
                expect(c, y, x, picture, learner)
                value = code_value(c, phase_at(y, x), 0, mixer, tape)
                picture.pixels[c, y, x] = value
                learn(c, y, x, value, learner)
