"""Pixels one by one, each under a mixture of predictions that learns from all before it: the loops, compiled.

``code`` is both sides: the encoder's bits are known, the decoder's come from the file, and nothing else differs. All is
float64 in one order, with no function of a mathematical library, so all machines agree; see adaptive.py for what it is.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from ddpm.compiled import compiled
from ddpm.diffusion.rounded import exp, ln

PAD = 2  # pixels beyond the edges that are looked at
NEAR = np.array([(1, 0), (0, 1), (1, 1), (1, -1), (2, 0), (0, 2), (1, 2), (2, 1), (2, -1), (1, -2), (2, 2), (2, -2)])
#      what is known of a colour: so many rows above, so many pixels to the left
AROUND = np.array(
    [(0, 0), (0, 1), (1, 0), (1, 1), (1, -1), (0, -1), (-1, 0), (0, 2), (2, 0)]
)  # of the belief: (dy, dx)
CROSS = np.array([(0, 0), (0, 1), (1, 0), (-1, 0), (0, -1)])  # of z
OTHER_NEAR, OTHER_AROUND = 4, 5  # how many of NEAR and AROUND of each other colour, its own value or z among the latter
ORDER = (1, 0, 2)  # green, red, blue

FITS = 3  # least squares: of pixels nearby, of some hundred before, of all
FADES = (0.0, 0.998, 0.9998)  # what a pixel still counts for one later; see SEGMENT for the first
SEGMENT, FADE, BESIDE, FAR = 16, 0.9, 0.7, 0.002  # columns that learn together; by row; of those beside; of all
REFIT, REFIT_NEAR = 24, 8  # pixels
RIDGE, FLOOR = 6.0, 1.0  # squared grey levels

PREDICTIONS = FITS + 5
INPUTS = PREDICTIONS + 1  # and a constant
BITS = 8
DEPTHS, FARS, SURE = (
    16,
    16,
    16,
)  # classes of the scale, of the distance of a bit's threshold, of the network's deviation
CONTEXTS = DEPTHS * FARS
SHIFTS = 8 * 8 * 4
FIRST_RATE, LAST_RATE, SLOWER = 0.008, 0.0025, 0.001  # of the mixture
LEAST_SCALE, SPREAD = 0.25, 0.65  # grey levels; of a logistic distribution for an error of 1 on average

HALF, STEPS = 16, 128  # the logistic function's table: -HALF to HALF, so many to 1
LOGS = 2048  # entries of the logarithm's table
TINY = 1e-6
PRECISION, SURELY = 1 << 16, 2e-5  # of probabilities as they are coded; of the least likely


class Memory(NamedTuple):
    """All that is learned of one picture, of C colours and F features.

    known: pixels of this row and the two above, (C, 3, W + 2 PAD). errors: absolute ones of the predictions in this row
    and the one above, (C, PREDICTIONS, 2, W + 2). products, targets: of least squares over all pixels, (C, FITS, F, F)
    and (C, FITS, F), the first unused; near_*: by segments. weights: (C, FITS, F). shift: sums of errors and their
    number by class, (C, 2, SHIFTS). ratio: errors over deviations that the network expects, (C, 2). mixing:
    (C, 3, CONTEXTS, INPUTS).
    """

    known: np.ndarray
    errors: np.ndarray
    products: np.ndarray
    targets: np.ndarray
    near_products: np.ndarray
    near_targets: np.ndarray
    weights: np.ndarray
    shift: np.ndarray
    ratio: np.ndarray
    mixing: np.ndarray


class Room(NamedTuple):
    """For the numbers of one pixel."""

    features: np.ndarray
    means: np.ndarray
    scales: np.ndarray
    below: np.ndarray  # the cdf of each prediction at the ends of the interval that the value is known to lie in
    above: np.ndarray
    middle: np.ndarray
    inputs: np.ndarray
    triangle: np.ndarray
    products: np.ndarray
    targets: np.ndarray
    solution: np.ndarray


def features_of(colours: int) -> int:
    """How many there are."""
    others = 2 if colours == 3 else 0
    return len(NEAR) + len(AROUND) + len(CROSS) + others * (1 + OTHER_NEAR + OTHER_AROUND) + 2


def memory_of(colours: int, width: int) -> tuple[Memory, Room]:
    """Of a picture of which nothing is known."""
    F, segments = features_of(colours), -(-width // SEGMENT) + 2
    zeros = np.zeros
    memory = Memory(
        zeros((colours, 3, width + 2 * PAD)),
        np.full((colours, PREDICTIONS, 2, width + 2), 4.0),
        zeros((colours, FITS, F, F)),
        zeros((colours, FITS, F)),
        zeros((colours, segments, F, F)),
        zeros((colours, segments, F)),
        zeros((colours, FITS, F)),
        zeros((colours, 2, SHIFTS)),
        np.ones((colours, 2)),
        np.full((colours, 3, CONTEXTS, INPUTS), 1.0 / INPUTS),
    )
    means, scales, below, above, middle = (zeros(PREDICTIONS) for _ in range(5))
    squares = zeros((F, F)), zeros((F, F))
    return memory, Room(zeros(F), means, scales, below, above, middle, zeros(INPUTS), *squares, zeros(F), zeros(F))


@lru_cache(maxsize=1)
def tables() -> tuple[np.ndarray, np.ndarray]:
    """1 / (1 + exp(-x)) at -HALF ... HALF, and ln(1 + i / LOGS), rounded correctly."""
    logistic = np.array([float(1 / (1 + exp(-i / STEPS))) for i in range(-HALF * STEPS, HALF * STEPS + 1)])
    return np.append(logistic, logistic[-1]), np.array([ln(1 + i / LOGS) for i in range(LOGS + 1)])


LN2 = ln(2)


@compiled
def logistic(x, table):
    """Its value, by linear interpolation."""
    x = min(max((x + HALF) * STEPS, 0.0), 2.0 * HALF * STEPS)
    i = int(x)
    return table[i] + (table[i + 1] - table[i]) * (x - i)


@compiled
def log(x, table):
    """ln x, x > 0, by linear interpolation."""
    mantissa, exponent = math.frexp(x)
    at = (mantissa * 2 - 1) * LOGS
    i = int(at)
    return table[i] + (table[i + 1] - table[i]) * (at - i) + (exponent - 1) * LN2


@compiled
def subtract(out, factor, values):
    """out -= factor values."""
    for j in range(len(out)):
        out[j] -= factor * values[j]


@compiled
def add(out, factor, values):
    """out += factor values."""
    for j in range(len(out)):
        out[j] += factor * values[j]


@compiled
def fade_and_add(out, fade, factor, values):
    """out = fade out + factor values."""
    for j in range(len(out)):
        out[j] = fade * out[j] + factor * values[j]


@compiled
def solve(A, b, U, y, out):
    """out = (A + RIDGE)^-1 b by Cholesky, of the upper half of A; as it is where that cannot be. U, y: room."""
    n = len(b)
    for i in range(n):
        y[i] = b[i]
        for j in range(i, n):
            U[i, j] = A[i, j]
        U[i, i] += RIDGE
    for k in range(n):
        if not U[k, k] > 1e-9:
            return
        root = math.sqrt(U[k, k])
        y[k] /= root
        for j in range(k, n):
            U[k, j] /= root
        for i in range(k + 1, n):
            first = U[k, i]
            y[i] -= first * y[k]
            subtract(U[i, i:], first, U[k, i:])
    for i in range(n - 1, -1, -1):
        s = y[i]
        for k in range(i + 1, n):
            s -= U[i, k] * out[k]
        out[i] = s / U[i, i]


@compiled
def gather(c, y, x, belief, seen, std, known, f):
    """The features of a pixel, as differences from what is believed of it."""
    colours, base, n = len(belief), belief[c, y + PAD, x + PAD], 0
    for k in range(len(NEAR)):
        f[n] = known[c, (y - NEAR[k, 0]) % 3, x + PAD - NEAR[k, 1]] - base
        n += 1
    for k in range(len(AROUND)):
        f[n] = belief[c, y + PAD + AROUND[k, 0], x + PAD + AROUND[k, 1]] - base
        n += 1
    for k in range(len(CROSS)):
        f[n] = seen[c, y + PAD + CROSS[k, 0], x + PAD + CROSS[k, 1]] - base
        n += 1
    for other in range(colours):
        if other != c:
            of_other = belief[other, y + PAD, x + PAD]
            f[n] = known[other, y % 3, x + PAD] - of_other if other < c else 0.0
            f[n + 1] = seen[other, y + PAD, x + PAD] - of_other
            n += 2
            for k in range(OTHER_NEAR):
                f[n] = known[other, (y - NEAR[k, 0]) % 3, x + PAD - NEAR[k, 1]] - of_other
                n += 1
            for k in range(1, OTHER_AROUND):
                f[n] = belief[other, y + PAD + AROUND[k, 0], x + PAD + AROUND[k, 1]] - of_other
                n += 1
    f[n] = 1.0
    f[n + 1] = 0.1 * std[c, y, x]


@compiled
def fit_near(c, x, memory, room):
    """Least squares of the pixels nearby."""
    segment = x // SEGMENT + 1
    A, b = memory.near_products[c], memory.near_targets[c]
    if x % SEGMENT == 0:
        A[segment] *= FADE
        b[segment] *= FADE
    for i in range(len(room.targets)):
        beside = b[segment - 1, i] + b[segment + 1, i]
        room.targets[i] = b[segment, i] + BESIDE * beside + FAR * memory.targets[c, 1, i]
        for j in range(i, len(room.targets)):
            beside = A[segment - 1, i, j] + A[segment + 1, i, j]
            room.products[i, j] = A[segment, i, j] + BESIDE * beside + FAR * memory.products[c, 1, i, j]
    solve(room.products, room.targets, room.triangle, room.solution, memory.weights[c, 0])


@compiled
def predict(c, y, x, base, std, memory, room):
    """Means of the predictions and their logistic scales; returns the class of the pixel, and the fits' mean."""
    f, mu, fits = room.features, room.means, 0.0
    for k in range(FITS):
        s = 0.0
        for i in range(len(f)):
            s += memory.weights[c, k, i] * f[i]
        mu[k] = base + s
        fits += mu[k]
    fits /= FITS
    left, above = memory.known[c, y % 3, x + PAD - 1], memory.known[c, (y - 1) % 3, x + PAD]
    corner = memory.known[c, (y - 1) % 3, x + PAD - 1]
    low, high = min(left, above), max(left, above)
    mu[FITS] = left + above - corner
    if corner >= high or corner <= low:
        mu[FITS] = min(max(mu[FITS], low), high)
    kind = int(min(7.0, abs(left - above) / 4)) * 8 + int(min(7.0, std * 1.5))
    kind = kind * 4 + (1 if left > fits else 0) + (2 if above > fits else 0)
    best = fits + memory.shift[c, 0, kind] / (memory.shift[c, 1, kind] + 2)
    mu[FITS + 1] = mu[FITS + 4] = best
    mu[FITS + 2] = mu[FITS + 3] = base

    now, before = y % 2, (y + 1) % 2
    for i in range(PREDICTIONS):
        e = memory.errors[c, i]
        total = e[before, x] + 1.3 * e[before, x + 1] + 0.8 * e[before, x + 2] + 1.3 * e[now, x]
        parts = 4.4
        if c > 0:
            total += 1.2 * memory.errors[c - 1, i, now, x + 1]
            parts += 1.2
        if c > 1:
            total += 0.6 * memory.errors[0, i, now, x + 1]
            parts += 0.6
        room.scales[i] = max(LEAST_SCALE, total / parts * SPREAD + 0.06)
    for i in range(2):
        expected = max(0.2, std * memory.ratio[c, i] * 0.6 + 0.05)
        room.scales[FITS + 3 + i] = expected if i == 0 else max(0.2, math.sqrt(expected * room.scales[FITS + 1]))
    return kind, fits


@compiled
def learn(c, y, x, pixel, base, fits, kind, std, count, memory, room):
    """From a pixel that is known now."""
    f, mu = room.features, room.means
    memory.known[c, y % 3, x + PAD] = pixel
    for i in range(PREDICTIONS):
        memory.errors[c, i, y % 2, x + 1] = abs(pixel - mu[i])
    for i in range(2):
        error = min(4.0, abs(pixel - mu[FITS + 3 + i]) / (std + 0.1))
        memory.ratio[c, i] += 0.002 * (error - memory.ratio[c, i])
    shift = memory.shift[c]
    shift[0, kind] += pixel - fits
    shift[1, kind] += 1
    if shift[1, kind] > 255:
        shift[:, kind] *= 0.5
    scale, target, segment = room.scales[FITS + 1], pixel - base, x // SEGMENT + 1
    weight = 1 / (scale * scale + FLOOR)
    for i in range(len(f)):
        weighted = f[i] * weight
        memory.near_targets[c, segment, i] += weighted * target
        add(memory.near_products[c, segment, i, i:], weighted, f[i:])
        for k in range(1, FITS):
            memory.targets[c, k, i] = FADES[k] * memory.targets[c, k, i] + weighted * target
            fade_and_add(memory.products[c, k, i, i:], FADES[k], weighted, f[i:])
    for k in range(1, FITS):
        if (count + k) % REFIT == 0:
            solve(memory.products[c, k], memory.targets[c, k], room.triangle, room.solution, memory.weights[c, k])


@compiled
def code_bit(bit, p, coder, data):
    """One bit, which is 1 with probability p, through a range coder of 32 bits; ``bit`` -1: read. Returns the bit.

    coder: the ends of the range, the value read, the place in the data. Beyond the end of data there are zeros.
    """
    low, high = coder[0], coder[1]
    one = int(p * PRECISION)
    middle = low + ((high - low) >> 16) * one + ((((high - low) & 0xFFFF) * one) >> 16)
    if bit < 0:
        bit = 1 if coder[2] <= middle else 0
        reading = True
    else:
        reading = False
    if bit:
        high = middle
    else:
        low = middle + 1
    while (low ^ high) & 0xFF000000 == 0:
        at = coder[3]
        if reading:
            coder[2] = ((coder[2] << 8) & 0xFFFFFFFF) | (data[at] if at < len(data) else 0)
        else:
            data[at] = high >> 24
        coder[3] = at + 1
        low = (low << 8) & 0xFFFFFFFF
        high = ((high << 8) & 0xFFFFFFFF) | 255
    coder[0], coder[1] = low, high
    return bit


@compiled
def code_value(c, value, std, count, memory, room, coder, data, logistic_table, log_table):
    """A pixel's value, bit by bit from the highest; -1: read. Returns it.

    Each prediction says how likely a bit is, as its distribution divides the interval that is left. These are mixed in
    the logarithms of odds, with weights of three contexts, which move along the gradient of the code length.
    """
    mu, sc, st = room.means, room.scales, room.inputs
    rate = LAST_RATE + FIRST_RATE / (1 + count * SLOWER)
    best, width = mu[FITS + 1], sc[FITS + 1]
    depth = int(min(DEPTHS - 1.0, max(0.0, log(width + 0.1, log_table) * (2.5 / LN2) + 4)))
    sure = int(min(SURE - 1.0, std * 2))
    room.below[:] = 0.0
    room.above[:] = 1.0
    st[PREDICTIONS] = 0.3
    low, high = 0, 256
    for b in range(BITS):
        middle = (low + high) >> 1
        for i in range(PREDICTIONS):
            room.middle[i] = logistic((middle - 0.5 - mu[i]) / sc[i], logistic_table)
            whole = max(room.above[i] - room.below[i], 1e-12)
            p = min(max((room.above[i] - room.middle[i]) / whole, TINY), 1 - TINY)
            st[i] = log(p, log_table) - log(1 - p, log_table)
        far = int(min(FARS - 1.0, abs(middle - best) / width * 2))
        first, second, third = (
            memory.mixing[c, 0, depth * BITS + b],
            memory.mixing[c, 1, depth * FARS + far],
            memory.mixing[c, 2, b * SURE + sure],
        )
        z = 0.0
        for i in range(INPUTS):
            z += (first[i] + second[i] + third[i]) * st[i]
        p = min(max(logistic(z / 3, logistic_table), SURELY), 1 - SURELY)
        bit = -1 if value < 0 else (1 if value >= middle else 0)
        bit = code_bit(bit, p, coder, data)
        step = (bit - p) * rate
        for i in range(INPUTS):
            first[i] += step * st[i]
            second[i] += step * st[i]
            third[i] += step * st[i]
        if bit:
            low = middle
            room.below[:] = room.middle
        else:
            high = middle
            room.above[:] = room.middle
    return low


@compiled
def code(rows, reading, pixels, belief, seen, std, memory, room, coder, data, logistic_table, log_table):
    """Rows (from, to) of pixels (C, H, W) uint8, read or written.

    belief, seen: (C, H + 2 PAD, W + 2 PAD); std: (C, H, W); all in grey levels.
    """
    C, _, W = pixels.shape
    for y in range(rows[0], rows[1]):
        for c in range(C):
            for row in range(y - PAD if y == 0 else y, y + 1):  # what is not known yet is believed, so are edges
                memory.known[c, row % 3] = belief[c, row + PAD]
        for x in range(W):
            count = y * W + x + 1
            for c in range(C):
                base, deviation = belief[c, y + PAD, x + PAD], std[c, y, x]
                gather(c, y, x, belief, seen, std, memory.known, room.features)
                if x % REFIT_NEAR == 0:
                    fit_near(c, x, memory, room)
                kind, fits = predict(c, y, x, base, deviation, memory, room)
                value = -1 if reading else int(pixels[c, y, x])
                value = code_value(c, value, deviation, count, memory, room, coder, data, logistic_table, log_table)
                pixels[c, y, x] = value
                learn(c, y, x, value, base, fits, kind, deviation, count, memory, room)
