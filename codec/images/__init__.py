"""Pictures in and out: what is given to be encoded, transparency, files of common formats."""
