"""``python -m codec`` is the command line, for ``torchrun -m codec``."""

from codec.cli.app import main

main()
