"""Least squares while coding, compiled: sums of products that fade, and the equations that they make.

What is summed is the upper half of g g^T, row by row, where g are the features and, last, what they shall add up to.
Loops are over long rows, so that processors add several numbers at once, each of them in the order that is written
here.
"""

from __future__ import annotations

import math

from ddpm.compiled import compiled

RIDGE = 6.0  # on the diagonal, squared grey levels


def length(features: int) -> int:
    """Of the sums of so many features."""
    return (features + 1) * (features + 2) // 2


@compiled
def times(out, factor, values):
    """out = factor values."""
    for j in range(len(out)):
        out[j] = factor * values[j]


@compiled
def subtract(out, factor, values):
    """out -= factor values."""
    for j in range(len(out)):
        out[j] -= factor * values[j]


@compiled
def add(out, values):
    """out += values."""
    for j in range(len(out)):
        out[j] += values[j]


@compiled
def fade_and_add(out, fade, values):
    """out = fade out + values."""
    for j in range(len(out)):
        out[j] = fade * out[j] + values[j]


@compiled
def multiply(g, weight, out):
    """out = the upper half of weight g g^T."""
    at = 0
    for i in range(len(g)):
        times(out[at : at + len(g) - i], weight * g[i], g[i:])
        at += len(g) - i


@compiled
def solve(sums, U, y, out):
    """The weights of the features that least squares give, with RIDGE, by Cholesky; as they are where that cannot be.
    U, y: room."""
    n, at = len(out), 0
    for i in range(n):
        for j in range(i, n):
            U[i, j] = sums[at + j - i]
        U[i, i] += RIDGE
        y[i] = sums[at + n - i]
        at += n + 1 - i
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
