"""The probabilistic model: schedules, Gaussians, likelihood, network, training. Knows nothing of bits or files."""

import os

# Maps of large pictures are tens of megabytes: huge pages save much of the time that goes into fresh memory. torch
# reads this when it first allocates; where the system has no huge pages it does nothing.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
