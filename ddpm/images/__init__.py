"""Pictures as the project reads them, alone and as data sets."""
