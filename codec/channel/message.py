"""A message and the Gaussians that it picks: ``encode`` searches, ``decode`` looks up. See trellis.py."""

from __future__ import annotations

import numpy as np
import torch

from .trellis import Trellis, Values


@torch.inference_mode()
def encode(trellis: Trellis, a: Values, b: Values) -> np.ndarray:
    """The message, (bits,) uint8 of 0 and 1, whose zeta has the largest a zeta + b zeta^2."""
    M, S = trellis.memory, trellis.bits
    if S == 0:
        return np.zeros(0, np.uint8)
    from .search import best_path  # its compiler takes time to load, and decoders need none

    path = best_path(trellis, a, b)
    return np.concatenate([path[S - M :], path[: S - M]])


def decode(trellis: Trellis, message: np.ndarray, rest: torch.Tensor) -> torch.Tensor:
    """zeta (dims,) float32 from the message, or from its beginning: stages not reached are taken from ``rest``."""
    M, S, n = trellis.memory, trellis.bits, len(message)
    if S == 0 or n < min(S, M + 1):
        return rest
    bits = np.concatenate([message.astype(np.int64), np.zeros(S - n, np.int64), message[:M].astype(np.int64)])
    branch = sum(bits[M - k : M - k + S] << (M - k) for k in range(M + 1))
    branch = torch.from_numpy(branch).to(rest.device, non_blocking=True)
    zeta = trellis.unfold(trellis.labels(branch, trellis.rows).T)
    if n < S:
        known = torch.arange(trellis.dims, device=rest.device) % S < n - M
        zeta = torch.where(known, zeta, rest)
    return zeta
