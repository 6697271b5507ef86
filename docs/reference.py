"""The reference of the packages, made from their docstrings: ``make docs`` writes it to docs/api/.

    python -m docs.reference [FOLDER]

Every module has its page; those that only a CUDA device can import have none.
"""

import sys
import warnings
from pathlib import Path

import pdoc

import codec
from tests import house


def main() -> None:
    for name in codec.__all__:  # pdoc looks for them in the module, which fetches them when they are asked for
        setattr(codec, name, getattr(codec, name))
    names = sorted(name for name in house.modules() if not name.endswith(("_cuda", "__main__")))
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else house.ROOT / "docs" / "api")
    for known in (r"Couldn't import \S+_cuda:", "The module specification"):  # modules come with their packages, too
        warnings.filterwarnings("ignore", known)
    pdoc.render.configure(show_source=False)
    pdoc.pdoc(*names, "!.*_cuda", output_directory=folder)
    print(f"{folder / 'index.html'}: {len(names)} modules")


if __name__ == "__main__":
    main()
