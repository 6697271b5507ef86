"""What a measurement leaves: JSON that says where it comes from, with its diagrams and tables in it.

What was measured is in ``rows``, each for itself, so that results of one kind can be merged. The command that measured
them has ``present(result) -> (diagrams, tables)``, which looks at nothing but the JSON, and is found by its name.
"""

from __future__ import annotations

import os
import platform
import time
from dataclasses import asdict
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

COMMANDS, HERE = Path(__file__).parents[1], Path(__file__).parent
SHARED = ("lengths", "progression")  # not of one command; what presents these lies here
LIBRARIES = ("ddpm-codec", "torch", "numpy", "constriction", "pillow")


class Run:
    """A measurement under way: what it is of, and the seconds since it began. ``model`` as the settings name it."""

    def __init__(self, bench: str, model=None, **settings):
        self.start = time.monotonic()
        device = getattr(model, "device", torch.device("cpu"))
        self.head = {
            "bench": bench,
            "model": model and model.name,
            "fingerprint": model and model.fingerprint.hex(),
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else f"cpu, {platform.machine()}",
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "versions": {"python": platform.python_version()} | {name: version(name) for name in LIBRARIES},
            "settings": {k: last_name(v) for k, v in settings.items()},
        }

    @property
    def seconds(self) -> float:
        return round(time.monotonic() - self.start, 1)

    def result(self, rows: list[dict], **more) -> dict:
        """The whole JSON, diagrams and tables included."""
        return presented(self.head | {"seconds": self.seconds, "rows": rows} | more)

    def take_others(self, stored: dict) -> None:
        """Rows of other codecs will be those of a stored result: ``others`` says where they are from."""
        here = {key: stored[key] for key in ("device", "cores", "seconds", "versions")}
        self.head["others"] = stored.get("others", here)

    def beside(self, stored: dict, rows: list[dict], **versions: str) -> dict:
        """A stored result whose rows of other codecs are of this run: ``rows`` are all of them, ``others`` says so."""
        about = {key: self.head[key] for key in ("device", "cores")} | {"seconds": self.seconds}
        about["versions"] = self.head["versions"] | versions
        return presented(stored | {"others": about, "rows": rows})


def last_name(value):
    """Of a path its last part: where files lie on a machine is nobody's business."""
    return Path(value).name if isinstance(value, Path) or (isinstance(value, str) and os.sep in value) else value


def presented(result: dict) -> dict:
    """The result with diagrams and tables made anew from what was measured."""
    bench = result["bench"]
    folder, package = (HERE, "bench.reporting") if bench in SHARED else (COMMANDS, "bench")
    if not (isinstance(bench, str) and bench.isidentifier() and (folder / f"{bench}.py").is_file()):
        raise ValueError(f"{bench!r} is no measurement of ours")
    diagrams, tables = import_module(f"{package}.{bench}").present(result)
    return result | {"diagrams": [d.to_json() for d in diagrams], "tables": [asdict(t) for t in tables]}


def pooled(rows: list[dict]) -> dict:
    """Rows of one kind, each of so many ``images``, as one: what was measured as means over all of them."""
    images = [row["images"] for row in rows]
    measured = [key for key, value in rows[0].items() if isinstance(value, float | list)]
    means = {key: np.average([row[key] for row in rows], 0, images).tolist() for key in measured}
    return rows[0] | means | {"images": sum(images)}


def joined(results: list[dict]) -> dict:
    """Results of one measurement and model, made at different times, as one; ValueError if they are not."""
    first = results[0]
    if any(r[key] != first[key] for r in results for key in ("bench", "fingerprint")):
        raise ValueError("results of different measurements or models cannot be merged")
    rows, seconds = [row for r in results for row in r["rows"]], sum(r["seconds"] for r in results)
    return presented(first | {"rows": rows, "seconds": seconds})
