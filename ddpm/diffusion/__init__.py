"""The paper's mathematics: schedules, Gaussians, the reverse process, likelihoods, sampling."""
