"""How a model is made: settings, losses, optimizers, the loop."""
