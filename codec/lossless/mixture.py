"""Values bit by bit under a mixture of predictions, through a range coder, compiled.

Each prediction is a logistic distribution. All is float64 in one order, with no function of a mathematical library: the
logistic function and the logarithm are tables.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from ddpm.compiled import compiled
from ddpm.diffusion.rounded import exp, ln

from .counts import KINDS, LAST, SCALE, Counts, count, counts_of, find

FITS = 3  # predictions that are regressions
PREDICTIONS = FITS + 5
BEST = FITS + 1  # whose mean and scale contexts are of
INPUTS = PREDICTIONS + 1 + KINDS  # a constant after the predictions, counts last
BITS = 8
DEPTHS, FARS = 16, 16  # classes of the scale, and of the distance of a bit's threshold
SURE, PHASES = 16, 4  # of the network's deviation, and of a pixel's place
SETS, CONTEXTS = 5, 256  # of weights
FIRST_RATE, LAST_RATE, SLOWER = 0.016, 0.0025, 0.001

HALF, STEPS = 16, 128  # the logistic function's table: -HALF to HALF, so many to 1
LOGS = 2048  # entries of the logarithm's table
TINY, LITTLE = 1e-6, 1e-9  # odds; parts of a distribution
PRECISION, SURELY = 1 << 16, 2e-5  # of probabilities as they are coded; of the least likely


class Value(NamedTuple):
    """What is expected of a value. means, scales: of the predictions, (PREDICTIONS,). keys: of its contexts (see
    counts.py), (KINDS,). now: what is believed of it, its deviation, its pixel's number, the mean of the regressions,
    its class."""

    means: np.ndarray
    scales: np.ndarray
    keys: np.ndarray
    now: np.ndarray


def values_of(*shape: int) -> Value:
    """Room for one, or for so many."""
    return Value(
        np.zeros((*shape, PREDICTIONS)),
        np.zeros((*shape, PREDICTIONS)),
        np.zeros((*shape, KINDS), np.int64),
        np.zeros((*shape, 5)),
    )


class Mixer(NamedTuple):
    """What is learned of C colours while their values are coded. value: the one at hand. weights: (C, SETS, CONTEXTS,
    INPUTS). below, middle, above: the cdf of each prediction at the ends of the interval that is left, and within."""

    value: Value
    weights: np.ndarray
    inputs: np.ndarray
    below: np.ndarray
    middle: np.ndarray
    above: np.ndarray
    counts: Counts


def mixer_of(value: Value, colours: int, values: int) -> Mixer:
    """Of a picture of so many values, of which nothing is known."""
    weights = np.zeros((colours, SETS, CONTEXTS, INPUTS))
    weights[..., :PREDICTIONS] = 1 / PREDICTIONS
    below, middle, above = np.zeros((3, PREDICTIONS))
    return Mixer(value, weights, np.zeros(INPUTS), below, middle, above, counts_of(values))


class Tape(NamedTuple):
    """Where bits go to or come from. coder: the ends of the range, the value read, the place in the data. logistic,
    logs: see ``tables``."""

    reading: bool
    coder: np.ndarray
    data: np.ndarray
    logistic: np.ndarray
    logs: np.ndarray


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
def code_bit(bit, p, tape):
    """One bit, which is 1 with probability p, through a range coder of 32 bits; ``bit`` counts unless it is read.
    Returns it. Beyond the end of data there are zeros."""
    coder, data = tape.coder, tape.data
    low, high = coder[0], coder[1]
    one = int(p * PRECISION)
    middle = low + ((high - low) >> 16) * one + ((((high - low) & 0xFFFF) * one) >> 16)
    if tape.reading:
        bit = 1 if coder[2] <= middle else 0
    if bit:
        high = middle
    else:
        low = middle + 1
    while (low ^ high) & 0xFF000000 == 0:
        at = coder[3]
        if tape.reading:
            coder[2] = ((coder[2] << 8) & 0xFFFFFFFF) | (data[at] if at < len(data) else 0)
        else:
            data[at] = high >> 24
        coder[3] = at + 1
        low = (low << 8) & 0xFFFFFFFF
        high = ((high << 8) & 0xFFFFFFFF) | 255
    coder[0], coder[1] = low, high
    return bit


@compiled
def odds_of(middle, mixer, tape):
    """The inputs for a bit: the logarithm of its odds as each prediction divides the interval that is left."""
    below, above, at, means, scales = mixer.below, mixer.above, mixer.middle, mixer.value.means, mixer.value.scales
    for i in range(PREDICTIONS):
        at[i] = logistic((middle - 0.5 - means[i]) / scales[i], tape.logistic)
        odds = (above[i] - at[i] + LITTLE) / (at[i] - below[i] + LITTLE)
        mixer.inputs[i] = log(min(max(odds, TINY), 1 / TINY), tape.logs)


@compiled
def counted(node, mixer, tape):
    """The inputs for a bit from what was counted, 0 where nothing was."""
    counts = mixer.counts
    for k in range(KINDS):
        slot, odds = counts.slots[k], 1.0
        if counts.seen[k, slot, node] > 0:
            p = counts.chances[k, slot, node] / SCALE
            odds = p / (1 - p)
        mixer.inputs[PREDICTIONS + 1 + k] = log(odds, tape.logs)


@compiled
def code_value(c, phase, value, mixer, tape):
    """A pixel's value, bit by bit from the highest, which counts unless it is read. Returns it.

    What the predictions and, of the last bits, the counts say is mixed in the logarithms of odds, with the mean of five
    sets of weights, each chosen by other circumstances, which move along the gradient of the code length.
    """
    inputs, weights, expected = mixer.inputs, mixer.weights[c], mixer.value
    std, done = expected.now[1], expected.now[2]
    rate = LAST_RATE + FIRST_RATE / (1 + done * SLOWER)
    best, width = expected.means[BEST], expected.scales[BEST]
    depth = int(min(DEPTHS - 1.0, max(0.0, log(width + 0.1, tape.logs) * (2.5 / LN2) + 4)))
    sure = int(min(SURE - 1.0, std * 2))
    mixer.below[:] = 0.0
    mixer.above[:] = 1.0
    inputs[PREDICTIONS] = 0.3
    low, high, last = 0, 256, 1
    for b in range(BITS):
        middle = (low + high) >> 1
        odds_of(middle, mixer, tape)
        node, used = (1 << b | low >> (BITS - b)), PREDICTIONS + 1
        if b >= BITS - LAST:
            if last == 1:
                find(c, low >> LAST, expected.keys, mixer.counts)
            counted(last, mixer, tape)
            used = INPUTS
        far = int(min(FARS - 1.0, abs(middle - best) / width * 2))
        first, second = weights[0, depth * BITS + b], weights[1, depth * FARS + far]
        third, fourth, fifth = weights[2, b * SURE + sure], weights[3, node], weights[4, phase * BITS + b]
        z = 0.0
        for i in range(used):
            z += (first[i] + second[i] + third[i] + fourth[i] + fifth[i]) * inputs[i]
        p = min(max(logistic(z / SETS, tape.logistic), SURELY), 1 - SURELY)
        bit = code_bit(1 if value >= middle else 0, p, tape)
        step = (bit - p) * rate
        for i in range(used):
            first[i] += step * inputs[i]
            second[i] += step * inputs[i]
            third[i] += step * inputs[i]
            fourth[i] += step * inputs[i]
            fifth[i] += step * inputs[i]
        if b >= BITS - LAST:
            count(last, bit, mixer.counts)
            last = 2 * last + bit
        if bit:
            low = middle
            mixer.below[:] = mixer.middle
        else:
            high = middle
            mixer.above[:] = mixer.middle
    return low
