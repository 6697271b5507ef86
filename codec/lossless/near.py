"""Values that are multiples of a step, but for the highest: of pictures with few levels, and of those that shall only
be near the original, which are made so."""

from __future__ import annotations

import numpy as np

from codec.images.alpha import split


def picture_within(array: np.ndarray, error: int) -> np.ndarray:
    """The nearest such picture; transparency, if it has any, is as it was."""
    if array.ndim == 3 and array.shape[2] in (2, 4):
        return np.concatenate([within(array[..., :-1], error), array[..., -1:]], 2)
    return within(array, error)


def mse(original: np.ndarray, array: np.ndarray) -> float:
    """Mean squared error of the colours, in squared grey levels."""
    return float(np.mean((split(array)[0].astype(float) - split(original)[0]) ** 2))


def within(x: np.ndarray, error: int) -> np.ndarray:
    """The nearest values, uint8, that are multiples of 2 error + 1, or 255: all within ``error`` levels of x."""
    step = 2 * error + 1
    return np.minimum((x.astype(np.int32) + error) // step * step, 255).astype(np.uint8)


def step_of(x: np.ndarray) -> int:
    """The largest step, 1 to 255, of which all values of x (uint8) are multiples, but for 255."""
    values = np.flatnonzero(np.bincount(x.reshape(-1), minlength=256)[:255])
    return int(np.gcd.reduce(values, initial=0)) or 255


def in_steps(x: np.ndarray, step: int) -> np.ndarray:
    """So many steps, rounded up."""
    return ((x.astype(np.int32) + step - 1) // step).astype(np.uint8)


def from_steps(steps: np.ndarray, step: int) -> np.ndarray:
    """The inverse of ``in_steps``."""
    return np.minimum(steps.astype(np.int32) * step, 255).astype(np.uint8)
