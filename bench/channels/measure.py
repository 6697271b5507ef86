"""What a scheme makes of channels: bits, efficiency, bias of its samples, time.

Under q, <a, zeta> / |delta|^2 with a = sqrt(1 + r) delta is 1 on average, and <a, zeta> / |delta| has the deviation 1.
Efficiency e = (E <a, zeta> / |delta|^2)^2 KL / bits, where r = 0 (E <delta, zeta> / |delta|)^2 / (2 ln 2 bits); 1 is
the information-theoretic limit of true samples. What is no sample, as a best path or a best candidate, has another:
``limit``. Variance across is that of the other directions in units of q's, so 1 under q.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ddpm.diffusion.likelihood import LN2

from .best_of_n import BestOfN
from .cases import Case
from .dithered import Dithered
from .gaussian import linear_and_square
from .pfr import LIMIT, PFR
from .trellis import RandomLabels, TrellisScheme

LEAST_DRAWS = 2


def limit(dims: int, bits: float) -> float:
    """The efficiency, at r = 0, that the best of 2^bits messages cannot exceed: D (2^(2S/D) - 1) / (2 ln2 S).

    In D dimensions 2^S directions leave one that is given at an angle of sine 2^(-S/D) or more (Shannon 1959); of a
    zeta there with variance 1 across, the part along delta is sqrt(D) times the cotangent. It falls to 1 as S / D does.
    """
    return dims * math.expm1(2 * LN2 * bits / dims) / (2 * LN2 * bits)


@dataclass(frozen=True)
class Setting:
    """A scheme and its parameters; ``make`` gives it what both sides know of a channel, and a seed."""

    scheme: str
    parameters: dict
    make: Callable[[Case, int], object]


def settings(memories: list[int], chunks: list[int], pfr_chunks: list[float], limit: int = LIMIT) -> list[Setting]:
    """Of all schemes; of the largest trellis also with paths drawn, and with labels all at random. Messages of a fixed
    length have a bit for each of KL.

    ``limit`` is the log2 of the candidates that PFR looks at for a chunk.
    """

    def trellis(memory, name="trellis", **how):
        return Setting(name, {"memory": memory}, lambda c, seed: TrellisScheme(c.r, c.bits, memory, seed=seed, **how))

    return [
        *(trellis(m) for m in memories),
        trellis(max(memories), "random-labels", labels=RandomLabels),
        trellis(max(memories), "sampled", sampled=True),
        *(Setting("best-of-n", {"chunk": n}, lambda c, seed, n=n: BestOfN(c.r, c.bits, n)) for n in chunks),
        *(
            Setting("pfr", {"chunk": n, "limit": limit}, lambda c, seed, n=n: PFR(c.r, c.kl, n, seed, limit=1 << limit))
            for n in pfr_chunks
        ),
        Setting("dithered", {}, lambda c, seed: Dithered(c.r, c.v, seed)),
    ]


def measure(setting: Setting, cases: list[Case], seconds: float = math.inf) -> dict:
    """A row of means over channels of the same KL, two or as many as the seconds allow, each with its own seed."""
    first = setting.make(cases[0], 0)
    if not isinstance(first, PFR):  # all others keep tables, which are made now
        first.decode(first.encode(cases[0].delta))
    begin, draws = time.perf_counter(), []
    for seed, case in enumerate(cases):
        if seed >= LEAST_DRAWS and time.perf_counter() - begin > seconds:
            break
        draws.append(draw(setting.make(case, seed), case))
    values = {key: np.array([d[key] for d in draws]) for key in draws[0]}
    kl, bits, along = cases[0].kl, values["bits"], values["along"]
    e = along.mean() ** 2 * kl / bits.mean()
    slopes = 2 * along / along.mean() - bits / bits.mean()  # of ln e: the delta method
    row = {
        "scheme": setting.scheme,
        "parameters": setting.parameters,
        "dims": len(cases[0].r),
        "kl": kl,
        "draws": len(draws),
        "bits": bits.mean(),
        "bits_over_kl": bits.mean() / kl,
        "efficiency": e,
        "efficiency_stderr": e * slopes.std(ddof=1) / math.sqrt(len(draws)) if len(draws) > 1 else None,
        "mean_along_over_target": along.mean(),
        "std_along": along.std(ddof=1) * np.linalg.norm(cases[0].delta) if len(draws) > 1 else None,
        "variance_across": values["variance_across"].mean(),
        "given_up": values["given_up"].mean(),
        "encode_seconds": np.median(values["encode_seconds"]),
        "decode_seconds": np.median(values["decode_seconds"]),
    }
    return {key: float(v) if isinstance(v, np.floating) else v for key, v in row.items()}


def draw(scheme, case: Case) -> dict:
    """One message and its zeta; ``given_up`` is the part of PFR's chunks whose search met its limit."""
    start = time.perf_counter()
    message, given_up = scheme.search(case.delta) if isinstance(scheme, PFR) else (scheme.encode(case.delta), False)
    encoded = time.perf_counter()
    zeta = scheme.decode(message)
    decoded = time.perf_counter()
    along = float(linear_and_square(case.delta, case.r)[0] @ zeta / (case.delta @ case.delta))
    across = np.sqrt(1 + case.r) * zeta - along * case.delta
    return {
        "bits": scheme.length(message),
        "along": along,
        "variance_across": across @ across / (len(across) - 1),
        "given_up": np.mean(given_up),
        "encode_seconds": encoded - start,
        "decode_seconds": decoded - encoded,
    }
