"""Ways to simulate a Gaussian channel with shared randomness, for bench/channel.py: the codec's trellis and its peers.

The decoder shall hold zeta (D,), N(0, I) under p, that looks drawn from q, which is known to the encoder alone:

    q = N(delta / sqrt(1 + r), I / (1 + r))

delta and r are (D,), those of codec/lossy/progressive.py; both sides know r. A scheme is a frozen dataclass of what
both know, with ``encode(delta)`` -> message, ``decode(message)`` -> zeta (D,) float32 and ``length(message)`` -> whole
bits of a prefix-free code. Shared randomness, and the encoder's own, come from Philox by explicit keys.

``trellis``, ``best_of_n``, ``pfr`` and ``dithered`` are the schemes, ``gaussian`` what they share; ``cases`` are
channels to simulate, ``measure`` what a scheme makes of them, ``compare`` two schemes at equal bits and in equal
time.
"""
