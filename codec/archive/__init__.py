"""Many pictures in one file, by bits-back, at the length of the model's bound."""
