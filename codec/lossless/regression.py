"""Least squares while coding, compiled: sums of products that fade, and the equations that they make.

Loops are over rows, so that processors add several numbers at once, each of them in the order that is written here.
"""

from __future__ import annotations

import math

from ddpm.compiled import compiled

RIDGE = 6.0  # on the diagonal, squared grey levels


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
