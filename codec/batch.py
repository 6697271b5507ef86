"""Many pictures or files, batch by batch: those of one kind together, shared among processes, the bad ones set apart.

    pictures = map(read_picture, names)
    for batch in shared(gathered(pictures, lambda p: p.shape, lambda p: p.shape[0] * p.shape[1]), workers):
        for picture, file in outcomes(batch, lambda part: codec.encode(part, target)):
            ...  # of a bad picture ``file`` is the exception

Nothing is read before it is asked for, and no more is held than waits for its batch to be full.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from itertools import islice
from typing import TypeVar

from ddpm.training.distributed import Workers

T = TypeVar("T")
R = TypeVar("R")

BATCH_PIXELS = 1 << 18  # pictures of one size run through the network together, up to so many pixels


def gathered(
    items: Iterable[T], kind: Callable[[T], Hashable], pixels: Callable[[T], int], most: int = BATCH_PIXELS
) -> Iterator[list[T]]:
    """Items of one ``kind`` together, as soon as one more, of as many ``pixels``, would make it more than ``most``.

    An item of more is a batch by itself. What has not come to be full follows in the end, kinds in the order in which
    they were first seen.

    >>> list(gathered(["a1", "b1", "a2", "a3", "b2"], kind=lambda s: s[0], pixels=lambda s: 10, most=20))
    [['a1', 'a2'], ['b1', 'b2'], ['a3']]
    """
    waiting: dict[Hashable, list[T]] = {}
    for item in items:
        key = kind(item)
        batch = waiting.setdefault(key, [])
        batch.append(item)
        if (len(batch) + 1) * pixels(item) > most:
            yield waiting.pop(key)
    yield from waiting.values()


def shared(batches: Iterable[T], workers: Workers) -> Iterator[T]:
    """Those of this process. All processes see the same batches in the same order, and each takes its turn."""
    return islice(batches, workers.rank, None, workers.world)


def outcomes(
    batch: Sequence[T], work: Callable[[Sequence[T]], Iterable[R]], catch: type[Exception] = Exception
) -> Iterator[tuple[T, R | Exception]]:
    """Each item with what ``work`` makes of it as one of a batch, or with the exception that it raises for it.

    If it raises one for the batch, it is called again for each item alone: the others shall not suffer from what is
    wrong with one.

    >>> list(outcomes([2, 0, 4], lambda batch: [1 / n for n in batch]))
    [(2, 0.5), (0, ZeroDivisionError('division by zero')), (4, 0.25)]
    """
    try:
        found = list(work(batch))
    except catch as e:
        found = [e] if len(batch) == 1 else None
    if found is not None:
        yield from zip(batch, found, strict=True)
        return
    for item in batch:
        yield from outcomes([item], work, catch)
