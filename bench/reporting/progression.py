"""Progressive decoding: what the first bytes of one file show, beside others' files of no fewer bytes, with pictures.

A row is one picture that can be looked at, ``source`` a data: URI. Rows of ours are the first ``bytes`` of one file;
those of the others, of the same ``stage``, are files of their own. ``file`` says which picture they are of.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from tqdm import tqdm

from bench.baselines.peers import PEERS, Encoder, at_least, modern
from bench.metrics.judge import decoded, figures
from codec import Codec, Target
from codec.api import psnr
from codec.diagrams import OURS, Axis, Diagram, Series
from codec.images.pictures import read_picture, saved

from .run import Run
from .table import Table

ORIGINAL = "original"
MOST = 16  # stages of a picture
FIRST = 1 / 40  # of the file: with less there is little to see, and other codecs have no files so small
QUALITY = 90  # of the WebP that shows what no browser reads
BROWSERS = {"JPEG": "image/jpeg", "WebP": "image/webp", "AVIF": "image/avif"}  # shown as the very files


def spread(sizes: Sequence[int], most: int = MOST) -> list[int]:
    """At most so many places in rising sizes, first and last among them, as evenly on a log scale as sizes allow."""
    if len(sizes) <= most:
        return list(range(len(sizes)))
    logs = np.log(sizes)
    return sorted({int(np.argmin(np.abs(logs - wanted))) for wanted in np.linspace(logs[0], logs[-1], most)})


def uri(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def shown(array: np.ndarray) -> str:
    """A picture for a browser, small and nearly the same."""
    return uri("image/webp", saved(array, "WEBP", quality=QUALITY, method=6))


def other(name: str, encode: Encoder, picture: np.ndarray, n_bytes: int) -> dict:
    """The smallest file of another codec of at least so many bytes; ``end`` if it is the smallest of all, or largest.

    ``encode`` should remember what it has made: the stages of a picture ask for the same qualities.
    """
    data = at_least(encode, picture, n_bytes)
    end = "smallest" if len(data) <= len(encode(picture, 1)) else "largest" if len(data) < n_bytes else None
    array = decoded(data, picture.ndim == 2)
    source = uri(BROWSERS[name], data) if name in BROWSERS else shown(array)
    return {"codec": name, "source": source, "end": end} | figures(picture, array, len(data))


def remembered(encode: Encoder, picture: np.ndarray) -> Encoder:
    """An encoder of this one picture that makes each quality once."""
    made = lru_cache(maxsize=None)(lambda quality: encode(picture, quality))
    return lambda _, quality: made(quality)


def measure(file: Path, codec: Codec, rate: float, peers: dict[str, Encoder]) -> list[dict]:
    """The rows of one picture: the original, then each stage of one file of ours with the others beside it."""
    picture = read_picture(file)
    size = {"width": picture.shape[1], "height": picture.shape[0]}
    rows = [{"codec": ORIGINAL, "source": shown(picture)} | figures(picture, picture, file.stat().st_size)]
    [coded] = codec.encode([picture], Target(bits_per_dim=rate))
    stages = [stage for stage in codec.stages(coded.data) if stage.bytes >= FIRST * len(coded.data)]
    encoders = {name: remembered(encoder, picture) for name, encoder in peers.items()}
    for i, k in enumerate(spread([s.bytes for s in stages])):
        n_bytes, array = stages[k].bytes, stages[k].array
        rows.append({"codec": OURS, "stage": i, "source": shown(array)} | figures(picture, array, n_bytes))
        rows += [{"stage": i} | other(name, encoder, picture, n_bytes) for name, encoder in encoders.items()]
    return [{"file": file.name} | size | row for row in rows]


def progressions(files: Sequence[Path], codec: Codec, rate: float, asked: dict) -> dict:
    """The result for these pictures, as ``Run`` has it; ``asked`` becomes its settings."""
    run, rows, peers = Run("progression", codec.model, **asked), [], PEERS | modern()
    for file in tqdm(files, desc="pictures", disable=None):
        rows += measure(file, codec, rate, peers)
    return run.result(rows)


def present(result: dict) -> tuple[list[Diagram], list[Table]]:
    """For each picture the curves, and the figures of the whole file."""
    diagrams, tables = [], []
    for file in dict.fromkeys(r["file"] for r in result["rows"]):
        rows = [r for r in result["rows"] if r["file"] == file and r["codec"] != ORIGINAL]
        series = []
        for name in dict.fromkeys(r["codec"] for r in rows):
            part = {r["bits_per_dim"]: psnr(r["mse"]) for r in rows if r["codec"] == name}
            points = [(rate, value) for rate, value in part.items() if math.isfinite(value)]
            series.append(Series(name, [x for x, _ in points], [y for _, y in points], "files"))
        diagrams.append(Diagram(file, Axis("bits/dim", "log"), Axis("PSNR, dB"), series))
        last = [r for r in rows if r["stage"] == max(r["stage"] for r in rows)]
        cells = [[r["codec"], f"{r['bytes']:,}", f"{r['bits_per_dim']:.3f}", f"{psnr(r['mse']):.2f} dB"] for r in last]
        tables.append(Table(f"{file}, the whole file", ["", "bytes", "bits/dim", "PSNR"], cells))
    return diagrams, tables
