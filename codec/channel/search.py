"""The best path through a trellis that closes on itself, by Viterbi's algorithm on the CPU or on a CUDA device.

Wrap-around decoding of tail-biting codes: Shao et al. 2003.
"""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np

from .metrics import Metrics
from .trellis import Trellis, Values
from .viterbi import OnCpu

WINDOW = 6  # registers of stages on each side that decide on the seam
Search = Any  # OnCpu, or what does the same on a CUDA device (viterbi_cuda.py)


def best_path(trellis: Trellis, a: Values, b: Values) -> np.ndarray:
    """The bits of the stages, (S,) uint8, along the path of the largest a zeta + b zeta^2."""
    search = search_for(Metrics(trellis, a, b), trellis.memory)
    return (in_stretches if trellis.bits >= 2 * search.stretch else tail_biting)(trellis, search)


def search_for(metrics: Metrics, M: int) -> Search:
    device = metrics.device
    if device.type == "cuda" and M > 1:
        with contextlib.suppress(ImportError):
            from . import viterbi_cuda

            if viterbi_cuda.works(device):
                return viterbi_cuda.Search(metrics, M, device)
    return OnCpu(metrics, M)


def tail_biting(trellis: Trellis, search: Search) -> np.ndarray:
    """The bits of the stages, (S,) uint8, along the best path from any of the likeliest registers back to itself."""
    M, S = trellis.memory, trellis.bits
    stages = np.arange(S)[:, None]
    # The likeliest starting registers, by the stages on both sides of the seam; then the best path from each to itself.
    window = min(S, WINDOW * max(M, 1))
    before = search.walk(stages[S - window :], search.anywhere(1))[1][0]
    seams = search.likeliest(before + search.backward(stages[:window][::-1]), trellis.seams)
    decisions, value = search.walk(stages, search.only(seams))
    best = int(value[np.arange(len(seams)), seams].argmax())
    return search.trace(decisions[:, best : best + 1], seams[best : best + 1], [S])[0]


def in_stretches(trellis: Trellis, search: Search) -> np.ndarray:
    """The bits of the stages of a long closed path, cut into stretches that are walked side by side.

    In which state the path is at a cut is decided first, by the stages on both sides of it: some tens of them, and what
    is further away hardly matters. The result does not depend on the number of threads.
    """
    pairs = -(-trellis.bits // (2 * search.stretch))  # an even number shares out better
    M, cuts = trellis.memory, np.linspace(0, trellis.bits, 2 * pairs + 1).astype(int)
    begins, lengths, overlap = cuts[:-1], np.diff(cuts), search.overlap

    def walk(begins, length, value):
        return search.walk((begins + np.arange(length)[:, None]) % trellis.bits, value)

    def around(group):
        decisions, value = walk(begins[group] - overlap, 2 * overlap, search.anywhere(len(group)))
        paths = search.trace(decisions, value.argmax(1), [2 * overlap] * len(group))
        return [int(path[overlap - M : overlap] @ 2 ** np.arange(M)) for path in paths]

    def between(group):
        decisions, _ = walk(begins[group], lengths[group].max(), search.only(states[group]))
        return search.trace(decisions, states[(group + 1) % len(states)], lengths[group])

    states = np.array(search.by_groups(around, len(begins), 2 * overlap))
    return np.concatenate(search.by_groups(between, len(begins), lengths.max()))
