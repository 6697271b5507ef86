"""The probabilistic model: schedules, Gaussians, likelihood, network, training. Knows nothing of bits or files."""
