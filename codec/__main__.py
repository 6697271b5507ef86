"""``python -m codec`` is the command line, for ``torchrun -m codec``."""

from .cli import main

main()
