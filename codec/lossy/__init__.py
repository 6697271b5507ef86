"""The progressive code: the chain and its steps, how many bits each gets, and what a picture needs."""
