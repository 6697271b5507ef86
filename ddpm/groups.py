"""Things of one kind together."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from typing import TypeVar

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)


def grouped(items: Iterable[T], kind: Callable[[T], K]) -> dict[K, list[T]]:
    """Kind -> the items of it, both in the order in which they come.

    >>> grouped([3, 1, 4, 1, 5], lambda n: n % 2)
    {1: [3, 1, 1, 5], 0: [4]}
    """
    groups: dict[K, list[T]] = {}
    for item in items:
        groups.setdefault(kind(item), []).append(item)
    return groups
