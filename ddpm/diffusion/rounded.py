"""Functions of floats that are the same on every machine, as those of its libraries are not: by ``decimal``."""

from __future__ import annotations

from decimal import Decimal, localcontext

import numpy as np

DIGITS = 40  # of constants that are rounded to floats in the end


def exp(x) -> np.ndarray:
    """exp of (...) float64; of a whole array, which is of no concern to files, numpy's."""
    if np.ndim(x):
        return np.exp(x)
    with localcontext(prec=DIGITS):
        return np.asarray(float(Decimal(float(x)).exp()))


def power(x: np.ndarray, exponent: float) -> np.ndarray:
    """x^exponent, x (n,) above 0; of more than one row numpy's."""
    if x.ndim > 1:
        return x**exponent
    with localcontext(prec=DIGITS):
        return np.array([float(Decimal(v) ** Decimal(exponent)) for v in x.tolist()])


def ln(x: float) -> float:
    """The natural logarithm of a number above 0."""
    with localcontext(prec=DIGITS):
        return float(Decimal(float(x)).ln())
