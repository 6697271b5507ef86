"""The simulation of a Gaussian channel: how a message of so many bits picks what looks drawn from q."""
