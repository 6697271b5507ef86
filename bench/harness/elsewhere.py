"""What one machine makes of pictures and of the files of others: a process of its own, under settings that it is given.

    python -m bench.harness.elsewhere write|read FOLDER

FOLDER has ``task.json`` ({"models", "lossless", "rate"}), for each model its pictures, ``0.npz``, ``1.npz``, ..., the
first so many of which are ``lossless`` too, and the files of all machines, named by their SHA-256, each once. To read
are those in ``asked.json``. One line of JSON answers.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from pathlib import Path

import numpy as np
import torch

from codec import Codec, CodecError, Target
from codec.archive import create, extract
from codec.batch import outcomes
from ddpm.exact import convolution
from ddpm.files import write_whole

WITHOUT_ONEDNN = "DDPM_BENCH_NO_ONEDNN"
CUT = 0.6  # of a file's bytes: some complete steps, and a part of one
VIEWS = {  # of files of each kind: how much of them is read, and how
    "lossy": {
        "whole": (1, {}),
        "cut": (CUT, {}),
        "flow": (1, {"recon": "flow"}),
        "cut, flow": (CUT, {"recon": "flow"}),
        "sample": (1, {"recon": "sample"}),
        "small": (1, {"max_size": 12}),
    },
    "lossless": {"whole": (1, {}), "cut": (CUT, {})},
    "archive": {"whole": (1, {})},
}


def write(folder: Path) -> list[dict]:
    """The files of this machine: for each set of pictures and kind their names; the archive has the lossless ones."""
    task, made = json.loads((folder / "task.json").read_text()), []
    for i, name in enumerate(task["models"]):
        codec, pictures = Codec(name, "cpu"), pictures_of(folder, i)
        few = pictures[: task["lossless"][i]]
        targets = {"lossy": (pictures, Target(bits_per_dim=task["rate"])), "lossless": (few, Target(lossless=True))}
        for kind, (some, target) in targets.items():
            files = [kept(folder, file.data) for file in codec.encode(some, target, store=False)]
            made.append({"set": i, "kind": kind, "files": files})
        named = [(f"{k:05d}", picture) for k, picture in enumerate(few)]
        files = [kept(folder, create(named, codec.model, store=False))]
        made.append({"set": i, "kind": "archive", "files": files})
    return made


def read(folder: Path) -> list[dict]:
    """What this machine shows of files: of each set, kind and view {file: [hash of each picture, None for none]}.

    What is asked: of each set and kind the files, and those of which there is more to see than the whole, ``some``.
    """
    task, asked = (json.loads((folder / name).read_text()) for name in ("task.json", "asked.json"))
    codecs, found = [Codec(name, "cpu") for name in task["models"]], []
    for part in asked:
        codec, count = codecs[part["set"]], task["lossless"][part["set"]]
        for view, (share, how) in VIEWS[part["kind"]].items():
            names = part["files"] if view == "whole" else part["some"]
            files = [(folder / name).read_bytes() for name in names]
            if part["kind"] == "archive":
                shown = [extracted(codec, data, count) for data in files]
            else:
                shown = decoded(codec, [data[: int(share * len(data))] for data in files], **how)
            found.append({"set": part["set"], "kind": part["kind"], "view": view, "shown": dict(zip(names, shown))})
    return found


def pictures_of(folder: Path, i: int) -> list[np.ndarray]:
    with np.load(folder / f"{i}.npz") as stored:
        return list(stored.values())


def kept(folder: Path, data: bytes) -> str:
    """The name of a file that is now in the folder."""
    name = hashlib.sha256(data).hexdigest()
    write_whole(folder / name, data)
    return name


def decoded(codec: Codec, files: list[bytes], **how) -> list[list[str | None]]:
    """Files together; if one of them cannot be decoded, one by one, with None for it."""
    found = outcomes(files, lambda part: codec.decode(part, **how), CodecError)
    return [[None if isinstance(shown, CodecError) else digest(shown.array)] for _, shown in found]


def extracted(codec: Codec, data: bytes, count: int) -> list[str | None]:
    """Of an archive's so many pictures, in the order of their names."""
    try:
        return [digest(array) for _, array in sorted(extract(data, codec.model), key=lambda entry: entry[0])]
    except CodecError:
        return [None] * count


def digest(array: np.ndarray) -> str:
    """Of shape and every byte; grey pictures are those of three equal colours, of which files keep one."""
    array = array[..., 0] if array.ndim == 3 and (array == array[..., :1]).all() else array
    return hashlib.sha256(f"{array.shape}".encode() + array.tobytes()).hexdigest()


def do_without_onednn() -> None:
    """As a torch that has none: neither its convolutions of floats nor those of bytes."""

    def absent(*_):
        raise NotImplementedError("oneDNN is off")

    torch.backends.mkldnn.enabled = False
    convolution.Int8.__call__ = absent


def answer(what: str, folder: Path) -> dict:
    """What is found, and what this machine computes with."""
    found = {"write": write, "read": read}[what](folder)
    machine = {"convolutions": convolution.fastest().__name__, "torch": torch.backends.cpu.get_cpu_capability()}
    return {"machine": machine, "found": found}


if __name__ == "__main__":
    if os.environ.get(WITHOUT_ONEDNN):
        do_without_onednn()
    print(json.dumps(answer(sys.argv[1], Path(sys.argv[2]))))
