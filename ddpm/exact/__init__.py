"""Networks of integers, which give the same answer to the last bit on every machine. See docs/exact.md."""
