"""What measurements share: their command line, their pictures, work in parts, watches.

``command``: mistakes and options; ``pick``: pictures of a source; ``photograph``: the one that is at hand; ``parts``:
long work that goes on where it stopped; ``ideal``: the chain over an ideal channel; ``jobs`` under a ``watch``: what
is timed, and where the time goes; ``ledger``: a stack that counts bits; ``elsewhere``: files written and read by a
process that stands in for another machine.
"""
