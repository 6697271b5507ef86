"""Whether another version of the program writes the very same files, and shows the same pictures, as this one.

    python -m tests.same_bytes before.json                # there
    python -m tests.same_bytes after.json --as before.json    # here; exit code 1 names what differs

Forty pictures and archives through the command line, with the models that ship: hashes of the files and of what they
decode to. Both runs on one machine and with as many threads: what a file holds may depend on how its encoder rounds.
"""

from __future__ import annotations

import hashlib
import io
import json
import sys
import tempfile
from pathlib import Path

import click
import numpy as np
from click.testing import CliRunner
from PIL import Image

from codec.cli import cli

PHOTOGRAPH = Path(__file__).parents[1] / "bench" / "pictures" / "kodim23-half.png"


def pictures() -> dict[str, np.ndarray]:
    """Name -> uint8 array: photographs, grey, transparent, tiny, flat ones, screens, noise."""
    photo, rng = np.asarray(Image.open(PHOTOGRAPH).convert("RGB")), np.random.default_rng(0)
    y, x = np.mgrid[:48, :64]
    icon = np.full((48, 48, 3), 255, np.uint8)
    icon[12:36, 12:36] = 200, 30, 30
    return {
        "photo": photo[100:196, 60:188],
        "small": photo[40:72, 200:232],
        "odd": photo[10:57, 300:353],
        "grey": photo[60:124, 100:164, 1],
        "small-grey": photo[90:122, 10:42, 0],
        "alpha": np.dstack([photo[:40, :56], (x[:40, :56] * 4).astype(np.uint8)]),
        "grey-alpha": np.dstack([photo[:24, :24, 0], (y[:24, :24] * 9).astype(np.uint8)]),
        "tiny": photo[:1, :1],
        "row": photo[5:6, :40],
        "white": np.full((48, 64, 3), 255, np.uint8),
        "flat": np.full((32, 32), 77, np.uint8),
        "gradient": (x * 4).astype(np.uint8),
        "icon": icon,
        "checkers": np.where((x + y) % 2, 255, 0).astype(np.uint8),
        "noise": rng.integers(0, 256, (24, 32, 3), dtype=np.uint8),
    }


# Names of pictures and what is asked of them; 40 files.
FILES = [
    *((name, "--rate 0.1") for name in ("photo", "small", "odd", "grey", "small-grey", "icon", "noise")),
    *((name, "--rate 0.8") for name in ("photo", "small", "odd", "grey", "row", "gradient")),
    *((name, "-q 30") for name in ("photo", "small", "grey", "flat")),
    *((name, "--psnr 32") for name in ("photo", "small", "icon")),
    *(
        (name, "--lossless")
        for name in ("small", "odd", "small-grey", "alpha", "grey-alpha", "tiny", "checkers", "noise")
    ),
    *((name, "--bytes 300") for name in ("photo", "white", "small-grey")),
    ("photo", "--steps 9"),
    ("photo", "--rate 0.3 --seed 7"),
    ("small", "--rate 0.5 --model cifar10-5"),
    ("odd", "--rate 0.5 --model photo-10"),
    ("grey", "--lossless --model photo-10"),
    ("small", "--lossless --model cifar10-5 --seed 3"),
]
ARCHIVES = {
    "cifar10": ["small", "small-grey", "flat", "noise"],
    "photo": ["photo", "odd", "alpha", "grey"],
    "cifar10 --steps 20": ["small", "small-grey"],
}


def run(*arguments) -> None:
    result = CliRunner().invoke(cli, [*map(str, arguments), "--quiet"])
    if result.exit_code:
        raise SystemExit(f"{' '.join(map(str, arguments))}: {result.output}")


def hashed(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def shown(path: Path) -> str:
    """A hash of a picture's values."""
    array = np.asarray(Image.open(io.BytesIO(path.read_bytes())))
    return hashed(str(array.shape).encode() + array.tobytes())


def measured(folder: Path) -> dict[str, list[str]]:
    """What was made -> hashes of the file and of what it decodes to, whole and cut."""
    found = {}
    for name, array in pictures().items():
        Image.fromarray(array).save(folder / f"{name}.png")
    for name, how in FILES:
        model = how.split()[how.split().index("--model") :][:2] if "--model" in how else []
        file, out = folder / "a.ddpm", folder / "a.png"
        run("encode", folder / f"{name}.png", "-o", file, "--force", *how.split())
        data = file.read_bytes()
        run("decode", file, "-o", out, "--force", *model)
        hashes = [hashed(data), shown(out)]
        file.write_bytes(data[: max(2 * len(data) // 3, 40)])
        run("decode", file, "-o", out, "--force", *model)
        found[f"{name} {how}"] = [*hashes, shown(out)]
    for how, names in ARCHIVES.items():
        file = folder / "a.ddpma"
        sources = [folder / f"{name}.png" for name in names]
        run("archive", "create", file, *sources, "--force", "--model", *how.split())
        found[f"archive {how}"] = [hashed(file.read_bytes())]
    return found


@click.command()
@click.argument("output", type=click.Path())
@click.option("--as", "before", type=click.Path(exists=True), help="What the other version wrote.")
def main(output, before):
    """Hash forty files and three archives, and compare."""
    with tempfile.TemporaryDirectory() as folder:
        found = measured(Path(folder))
    Path(output).write_text(json.dumps(found, indent=1) + "\n")
    if before:
        known = json.loads(Path(before).read_text())
        different = [name for name in {**known, **found} if known.get(name) != found.get(name)]
        print("\n".join(different) or f"the same: {len(found)} files and archives")
        sys.exit(bool(different))


if __name__ == "__main__":
    main()
