"""Of small files the shortest that is near enough.

How near a small file comes hardly rises from one length to the next: some bits more or less decide by luck how its last
steps go, and that is worth a decibel or two. A search that trusts a curve passes by shorter files that would do; here
they are made, length by length, down to where none comes near any more.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from .multipass import Job, Sender, Sent

STRETCH = 4  # lengths in a row of which none comes near, where the search ends; also rungs that are tried together
LUCK = 6.5  # of the logarithm of a squared error, at most, times the root of the number of dimensions: 2 dB at 8x8 ...
LEAST = 0.22  # ... and at least: 1 dB


def among_lengths(sender: Sender, picture: int, budgets: Sequence[float], mse: float) -> Sent | None:
    """Of the files of these falling budgets (bits) the one with the fewest bits that reaches ``mse``."""
    far, found, known = mse * math.exp(max(LUCK / math.sqrt(sender.plan.dims), LEAST)), [], {}
    for i in range(0, len(budgets), STRETCH):
        sent = sender.fed([Job(picture, budget) for budget in budgets[i : i + STRETCH]], known)
        found += [s for s in sent if s.mse <= mse]
        if all(s.mse > far for s in sent):
            break
    return min(found, key=lambda s: s.bits, default=None)


def among_rungs(sender: Sender, picture: int, rungs: Sequence[float], mse: float) -> Sent | None:
    """The first of ``Sender.best_of_rungs`` that reaches ``mse``."""
    for i in range(0, len(rungs), STRETCH):
        for sent in sender.of_rungs(picture, rungs[i : i + STRETCH]):
            if sent.mse <= mse:
                return sent
    return None
