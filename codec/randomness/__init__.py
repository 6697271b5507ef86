"""What encoder and decoder draw alike: the same on every machine, for every version of the libraries."""
