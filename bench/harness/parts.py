"""Long measurements in parts: what is done is kept in a folder, and a later run goes on from there."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

from codec.diagrams import read_result
from codec.errors import CodecError
from ddpm.files import write_whole


class Parts:
    """Answers by name, in FOLDER/parts.json; without a folder nothing is kept. ``of`` says what is measured."""

    def __init__(self, folder: Path | None, of: dict):
        self.folder, self.answers = folder, {"of": of}
        if folder and (file := folder / "parts.json").exists():
            self.answers = read_result(file)
            if self.answers.get("of") != of:
                raise CodecError(f"{file} is of another measurement: {self.answers.get('of')}, not {of}")

    def __call__(self, name: str, work: Callable):
        """What ``work`` returned, now or in an earlier run; JSON."""
        if name not in self.answers:
            self.answers[name] = work()
            self._keep("parts.json", json.dumps(self.answers, indent=1).encode())
        return self.answers[name]

    def data(self, name: str, work: Callable[[], bytes]) -> tuple[bytes, float]:
        """The same for bytes, in a file of that name; with the seconds it took."""
        made = []

        def timed() -> float:
            start = time.monotonic()
            made.append(work())
            seconds = time.monotonic() - start
            self._keep(name, made[0])
            return seconds

        seconds = self(name, timed)
        return made[0] if made else (self.folder / name).read_bytes(), seconds

    def _keep(self, name: str, data: bytes) -> None:
        if self.folder:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_whole(self.folder / name, data)
