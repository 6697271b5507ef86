"""What computes eps_hat and its uncertainty, and in which arithmetic."""
