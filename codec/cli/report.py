"""Where words go: results, trouble, progress."""

from __future__ import annotations

import json
import shlex
import sys

from tqdm import tqdm

from codec.errors import CodecError
from ddpm.images.pictures import Picture, load_picture
from ddpm.training.distributed import Workers


class Reporter:
    """Where words go: results to stdout (stderr while stdout carries data), trouble and progress to stderr."""

    def __init__(self, quiet: bool, as_json: bool, to_stdout: bool, workers: Workers | None = None):
        self.quiet, self.as_json, self.out = quiet, as_json, sys.stderr if to_stdout else sys.stdout
        self.rows, self.failed, self.workers = [], False, workers or Workers("cpu")

    def row(self, words: str, **fields) -> None:
        self.rows.append(fields)
        if not self.quiet and not self.as_json:
            print(words, file=self.out, flush=True)

    def warn(self, text: str) -> None:
        print(f"warning: {text}", file=sys.stderr, flush=True)

    def error(self, text: str) -> None:
        self.failed = True
        print(f"error: {text}", file=sys.stderr, flush=True)

    def read(self, source, name: str, **rules) -> Picture | None:
        """A picture; None for one that cannot be read, after saying so. Of many processes, which all read, one says."""
        first = self.workers.rank == 0
        try:
            picture = load_picture(source, name=name, **rules)
        except CodecError as e:
            self.failed = True
            if first:
                self.error(str(e))
            return None
        for line in picture.warnings if first else ():
            self.warn(line)
        return picture

    def bar(self, total: int, words: str) -> tqdm:
        return tqdm(total=total or None, desc=words, unit="step", leave=False, disable=True if self.quiet else None)

    def close(self, order=()) -> None:
        """Say what there is to say in the end, files in this order; of many processes the first speaks for all."""
        rows = [row for part in self.workers.gather(self.rows) for row in part]
        failed = any(self.workers.gather(self.failed))
        place = {name: i for i, name in enumerate(order)}
        rows = sorted(rows, key=lambda row: place.get(row["file"], len(place)))
        if self.as_json and self.workers.rank == 0:
            print(json.dumps(rows, indent=1), file=self.out)
        if failed:
            sys.exit(2)


def counted(n: int, what: str) -> str:
    """``1 picture``, ``1,234 pictures``."""
    return f"{n:,} {what}{'' if n == 1 else 's'}"


def command(*words: str) -> str:
    """A line for a shell that calls this program."""
    return shlex.join(["ddpm-codec", *words])
