"""How long the part of the pixels can be, which is asked before anything of it is read; see pixels.py."""

PREFIX = 5  # bytes before the range-coded words


def longest(size: tuple[int, int]) -> int:
    """Bytes that the part of no picture of this size has."""
    return PREFIX + 24 * size[0] * size[1] + 4096
