"""Where time goes: functions are watched for as long as a ``Watch`` lasts, and then are as they were.

    with Watch(device) as watch, watch.part("rest"):
        watch.over(Model, "forward", "network")
        ...
    watch.seconds  # {"rest": ..., "network": ...}, which add up to all that passed

A part within another counts once, to the inner one. Only the thread that made the watch is watched: while it waits for
others, time counts to the part that waits. On a GPU a part ends when all it started has been done.
"""

from __future__ import annotations

import functools
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, contextmanager
from unittest.mock import patch

import torch


class Watch:
    """Sums the ``seconds`` of each part."""

    def __init__(self, device: torch.device):
        self.device, self.thread = device, threading.get_ident()
        self.seconds: Counter[str] = Counter()
        self.open: list[str] = []  # parts under way, the innermost last
        self.since, self.patches = 0.0, ExitStack()

    def __enter__(self):
        return self

    def __exit__(self, *how):
        self.patches.close()

    @property
    def total(self) -> float:
        return sum(self.seconds.values())

    @contextmanager
    def part(self, name: str):
        """What passes in here counts to ``name``."""
        if threading.get_ident() != self.thread or self.open[-1:] == [name]:
            yield
            return
        self._settle()
        self.open.append(name)
        try:
            yield
        finally:
            self._settle()
            self.open.pop()

    def over(self, owner, name: str, part: str, when: Callable | None = None, note: Callable | None = None) -> None:
        """Calls of the function ``name`` of a class, module or object count to ``part``.

        Both are called with the same arguments before it: ``note`` to look at them, ``when`` to say whether to count.
        """
        function = getattr(owner, name)

        @functools.wraps(function)
        def watched(*args, **how):
            if when and not when(*args, **how):
                return function(*args, **how)
            if note:
                note(*args, **how)
            with self.part(part):
                return function(*args, **how)

        self.patches.enter_context(patch.object(owner, name, watched))

    def _settle(self) -> None:
        """Give what has passed to the part under way."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        now = time.perf_counter()
        if self.open:
            self.seconds[self.open[-1]] += now - self.since
        self.since = now
