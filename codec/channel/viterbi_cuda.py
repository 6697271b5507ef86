"""Viterbi's algorithm on a CUDA device: what viterbi.py does in NumPy, without leaving the device.

One block of threads walks one path. It keeps the values of all states in memory of its own, near enough to stay in the
caches of its multiprocessor, and waits for itself after each stage; many paths are walked at once by many of them. So
long messages are cut into many more, shorter stretches than on a CPU. Only the bits of the paths travel to the CPU.

Values are int32 here, so nothing is ever taken off them.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import cache
from itertools import chain
from types import SimpleNamespace

import numpy as np
import torch
import triton
import triton.language as tl

STRETCH = 512  # stages of a long message that are decided on together
OVERLAP = 256  # stages on each side of a cut between them; with so many the path is as good as a single one
ROWS = 4096  # branch metrics of so many stages are held at once
DECISIONS = 1 << 30  # bytes of them that are held at once
WIDTH = 8192  # states that a block of threads works on at once
EACH = 8  # states for each thread
NEVER = -(2**24)  # value of states where a path must not begin


@triton.jit
def _metrics(metrics, w, HALF: tl.constexpr, OPPOSED: tl.constexpr):
    """Of branches 2w and 2w + 1, then 2w + 2^M and 2w + 2^M + 1; w (n,) < HALF = 2^M / 2. As ``Metrics.products``."""
    if OPPOSED:
        even = tl.load(metrics + w).to(tl.float32).to(tl.int32)
        odd = tl.load(metrics + HALF + w).to(tl.float32).to(tl.int32)
        return even, odd, odd, even
    else:
        even = tl.load(metrics + w).to(tl.float32).to(tl.int32)
        odd = tl.load(metrics + 2 * HALF + w).to(tl.float32).to(tl.int32)
        upper_even = tl.load(metrics + HALF + w).to(tl.float32).to(tl.int32)
        upper_odd = tl.load(metrics + 3 * HALF + w).to(tl.float32).to(tl.int32)
        return even, odd, upper_even, upper_odd


@triton.jit(do_not_specialize=["stages", "now"])
def _forward(
    metrics, value, pairs, decisions, stages, now,
    HALF: tl.constexpr, OPPOSED: tl.constexpr, SHARED: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """``stages`` of path k, of ``value`` (K, 2, 2 HALF) int32 at [k, now]; then at [k, (now + stages) % 2].

    pairs: the same memory as int64, two states in each. metrics (stages, 1 if SHARED else K, n); decisions (stages, K,
    2 HALF) uint8, which of the branches 2w and 2w + 1 won.
    """
    states: tl.constexpr = 2 * HALF
    n: tl.constexpr = states if OPPOSED else 2 * states
    k = tl.program_id(0).to(tl.int64)
    paths = tl.num_programs(0).to(tl.int64)
    value += k * 2 * states
    pairs += k * 2 * HALF
    decisions += k * states
    if not SHARED:
        metrics += k * n
    for s in range(stages):
        begin = (now + s) % 2
        for first in range(0, HALF, WIDTH):
            w = first + tl.arange(0, WIDTH)
            even_metric, odd_metric, upper_even_metric, upper_odd_metric = _metrics(metrics, w, HALF, OPPOSED)
            pair = tl.load(pairs + begin * HALF + w)
            even = pair.to(tl.int32)
            odd = (pair >> 32).to(tl.int32)
            lower_even, lower_odd = even + even_metric, odd + odd_metric
            upper_even, upper_odd = even + upper_even_metric, odd + upper_odd_metric
            end = value + (1 - begin) * states
            tl.store(end + w, tl.maximum(lower_even, lower_odd))
            tl.store(end + HALF + w, tl.maximum(upper_even, upper_odd))
            tl.store(decisions + w, (lower_odd > lower_even).to(tl.uint8))
            tl.store(decisions + HALF + w, (upper_odd > upper_even).to(tl.uint8))
        if SHARED:
            metrics += n
        else:
            metrics += paths * n
        decisions += paths * states
        tl.debug_barrier()


@triton.jit(do_not_specialize=["stages", "now"])
def _backward(
    metrics, value, pairs, stages, now, HALF: tl.constexpr, OPPOSED: tl.constexpr, WIDTH: tl.constexpr
):  # fmt: skip
    """As ``_forward``, of a single path and against its direction: the last stage comes first in ``metrics``."""
    states: tl.constexpr = 2 * HALF
    n: tl.constexpr = states if OPPOSED else 2 * states
    for s in range(stages):
        begin = (now + s) % 2
        for first in range(0, HALF, WIDTH):
            w = first + tl.arange(0, WIDTH)
            even_metric, odd_metric, upper_even_metric, upper_odd_metric = _metrics(metrics, w, HALF, OPPOSED)
            lower = tl.load(value + begin * states + w)
            upper = tl.load(value + begin * states + HALF + w)
            even = tl.maximum(lower + even_metric, upper + upper_even_metric)
            odd = tl.maximum(lower + odd_metric, upper + upper_odd_metric)
            pair = (odd.to(tl.int64) << 32) | even.to(tl.uint32, bitcast=True).to(tl.int64)
            tl.store(pairs + (1 - begin) * HALF + w, pair)
        metrics += n
        tl.debug_barrier()


@triton.jit(do_not_specialize=["stride", "longest"])
def _follow(decisions, ends, lengths, bits, stride, longest, M: tl.constexpr):
    """Path k backwards from its state ends[k] after lengths[k] stages: bits (K, longest).

    decisions (S, K, 2^M), the stages ``stride`` from each other.
    """
    k = tl.program_id(0).to(tl.int64)
    state = tl.load(ends + k)
    length = tl.load(lengths + k)
    decisions += k << M
    bits += k * longest
    for i in range(length):
        s = (length - 1 - i).to(tl.int64)
        branch = 2 * state + tl.load(decisions + s * stride + state).to(tl.int32)
        tl.store(bits + s, (branch >> M).to(tl.uint8))
        state = branch & ((1 << M) - 1)


class Search:
    """As ``viterbi.OnCpu``; values (K, 2^M) int32 and decisions (S, K, 2^M) uint8 are tensors on the device.

    Of ``metrics`` only ``products`` is asked for.
    """

    def __init__(self, metrics, memory: int, device: torch.device):
        self.metrics, self.M, self.device = metrics, memory, device
        self.stretch, self.overlap = STRETCH, OVERLAP
        half = 2 ** (memory - 1)
        width = min(half, WIDTH)
        self.how = {"HALF": half, "WIDTH": width, "num_warps": min(max(width // (32 * EACH), 1), 32), "num_stages": 1}

    def anywhere(self, paths: int) -> torch.Tensor:
        return torch.zeros(paths, 2**self.M, dtype=torch.int32, device=self.device)

    def only(self, states: np.ndarray) -> torch.Tensor:
        return self.anywhere(len(states)).fill_(NEVER).scatter_(1, self._upload(states, torch.int64)[:, None], 0)

    def walk(self, stages: np.ndarray, value: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        paths, states = value.shape
        decisions = torch.empty(len(stages), paths, states, dtype=torch.uint8, device=self.device)
        values, done = self._both(value), 0
        with torch.cuda.device_of(values):
            for block in self.metrics.products(stages, min(ROWS, stages.size)):
                _forward[(paths,)](
                    block,
                    values,
                    values.view(torch.int64),
                    decisions[done:],
                    len(block),
                    done % 2,
                    OPPOSED=block.shape[2] == states,
                    SHARED=block.shape[1] == 1,
                    **self.how,
                )
                done += len(block)
        return decisions, values[:, done % 2]

    def backward(self, stages: np.ndarray) -> torch.Tensor:
        values, done = self._both(self.anywhere(1)), 0
        with torch.cuda.device_of(values):
            for block in self.metrics.products(stages, min(ROWS, stages.size)):
                opposed = block.shape[2] == 2**self.M
                _backward[(1,)](
                    block, values, values.view(torch.int64), len(block), done % 2, OPPOSED=opposed, **self.how
                )
                done += len(block)
        return values[0, done % 2]

    def likeliest(self, value: torch.Tensor, count: int) -> np.ndarray:
        return value.topk(count).indices.cpu().numpy()

    def trace(self, decisions: torch.Tensor, ends, lengths: Sequence[int] | np.ndarray) -> list[np.ndarray]:
        longest = int(max(lengths))
        bits = torch.empty(len(lengths), longest, dtype=torch.uint8, device=self.device)
        ends, lengths_there = self._upload(ends, torch.int32), self._upload(lengths, torch.int32)
        with torch.cuda.device_of(bits):
            _follow[(len(lengths),)](
                decisions, ends, lengths_there, bits, decisions.stride(0), longest, M=self.M, num_warps=1, num_stages=1
            )
        return [path[:n] for path, n in zip(bits.cpu().numpy(), lengths)]

    def by_groups(self, work: Callable[[np.ndarray], list], count: int, length: int) -> list:
        groups = -(-count * int(length) * 2**self.M // DECISIONS)
        return list(chain.from_iterable(map(work, np.array_split(np.arange(count), min(groups, count)))))

    def _both(self, value: torch.Tensor) -> torch.Tensor:
        """(K, 2, 2^M): the values, and room for those after the next stage."""
        values = torch.empty(len(value), 2, value.shape[1], dtype=torch.int32, device=self.device)
        values[:, 0] = value
        return values

    def _upload(self, values, dtype: torch.dtype) -> torch.Tensor:
        return torch.as_tensor(values).to(self.device, dtype, non_blocking=True)


@cache
def works(device: torch.device) -> bool:
    """Whether Triton can compile for this device; it asks for a C compiler, among others."""

    zeros = SimpleNamespace(products=lambda stages, most: [torch.zeros(len(stages), 1, 4, device=device)])
    try:
        search = Search(zeros, 2, device)
        decisions, value = search.walk(np.zeros((3, 1), int), search.anywhere(1))
        return search.trace(decisions, value.argmax(1), [3])[0].tolist() == [0, 0, 0]
    except Exception as e:
        warnings.warn(f"Triton does not work here, so paths are searched on the CPU: {e}", stacklevel=2)
        return False
