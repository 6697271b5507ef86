"""From the end of the chain to the very pixels: p(x | z_0) in integers, or a mixture that learns; range coded."""
