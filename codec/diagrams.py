"""Diagrams as data: measurements write them into their JSON, and they are drawn from there alone.

{"title": ..., "x": AXIS, "y": AXIS, "series": [SERIES, ...]}
AXIS    {"label": ..., "scale": "linear" or "log", "range": [from, to] or null}
SERIES  {"name": ..., "x": [...], "y": [...], "style": one of STYLES}
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import CodecError

if TYPE_CHECKING:
    from ddpm.diffusion.bound import Bound

STYLES = {
    "line": {"linestyle": "-"},
    "files": {"linestyle": "-", "marker": "o", "markersize": 4},
    "points": {"linestyle": "none", "marker": "o", "markersize": 4},
    "ideal": {"linestyle": "--"},
    "published": {"linestyle": ":", "marker": ".", "markersize": 4},
}
OURS = "ddpm-codec"  # series whose names begin with it are drawn black and wide
SHADES = ("black", "#555555", "#888888", "#aaaaaa")
HOW = {"png": {}, "svg": {"metadata": {"Date": None}}, "webp": {"pil_kwargs": {"lossless": True}}}
KINDS = tuple(HOW)
MOST = 1 << 20  # numbers in a diagram
HUGE = 1e100


@dataclass(frozen=True)
class Axis:
    label: str
    scale: str = "linear"
    range: tuple[float, float] | None = None


@dataclass(frozen=True)
class Series:
    """y over x, two lists of one length."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    style: str = "line"


@dataclass(frozen=True)
class Diagram:
    title: str
    x: Axis
    y: Axis
    series: list[Series] = field(default_factory=list)

    def to_json(self) -> dict:
        return asdict(self)

    @classmethod
    def from_json(cls, value) -> Diagram:
        """CodecError for what is no diagram."""
        try:
            series = [Series(s["name"], s["x"], s["y"], s.get("style", "line")) for s in value["series"]]
            diagram = cls(value["title"], axis(value["x"]), axis(value["y"]), series)
        except (KeyError, TypeError, AttributeError):
            raise CodecError("not a diagram: title, x, y or series are missing") from None
        names = [diagram.title, diagram.x.label, diagram.y.label, *(s.name for s in series)]
        if not all(isinstance(name, str) for name in names):
            raise CodecError("not a diagram: titles, labels and names are words")
        if sum(len(s.x) for s in series if isinstance(s.x, list)) > MOST:
            raise CodecError(f"a diagram of more than {MOST} points")
        for s in series:
            if not (numbers(s.x) and numbers(s.y) and len(s.x) == len(s.y) and s.style in list(STYLES)):
                raise CodecError(f"not a diagram: {s.name!r} needs numbers x and y, as many of each, and a known style")
        return diagram


def axis(value) -> Axis:
    scale, ends = value.get("scale", "linear"), value.get("range")
    if ends is not None:
        if not (numbers(ends) and len(ends) == 2 and ends[0] != ends[1] and (scale != "log" or min(ends) > 0)):
            raise CodecError("not a diagram: the range of an axis is two numbers, on a log scale positive ones")
        ends = tuple(ends)
    if scale not in ("linear", "log"):
        raise CodecError("not a diagram: an axis is linear or log")
    return Axis(value["label"], scale, ends)


def numbers(values) -> bool:
    return isinstance(values, list | tuple) and all(
        isinstance(v, int | float) and not isinstance(v, bool) and -HUGE < v < HUGE for v in values
    )


def read_result(name: str | Path) -> dict:
    """The JSON of a measurement; CodecError for anything else."""
    try:
        result = json.loads(Path(name).read_bytes())
    except OSError as e:
        raise CodecError(f"{name}: {e.strerror or e}") from None
    except (ValueError, RecursionError):
        raise CodecError(f"{name}: not JSON") from None
    if not isinstance(result, dict):
        raise CodecError(f"{name}: not the JSON of a measurement")
    return result


def read_diagrams(name: str | Path) -> list[Diagram]:
    """Those that the JSON of a measurement holds; CodecError for anything else."""
    listed = read_result(name).get("diagrams", [])
    if not isinstance(listed, list):
        raise CodecError(f"{name}: not the JSON of a measurement")
    try:
        return [Diagram.from_json(value) for value in listed]
    except CodecError as e:
        raise CodecError(f"{name}: {e}") from None


def merged(groups: Iterable[tuple[str, list[Diagram]]]) -> list[Diagram]:
    """Diagrams of one title and the same axes as one. groups: (where from, diagrams); it tells like names apart."""
    found: dict[tuple, list[Series]] = {}
    for source, diagrams in groups:
        for d in diagrams:
            series = found.setdefault((d.title, axis(asdict(d.x)), axis(asdict(d.y))), [])
            for s in d.series:
                if s in series:
                    continue
                taken = any(s.name == other.name for other in series)
                series.append(Series(f"{s.name} ({source})" if taken else s.name, s.x, s.y, s.style))
    return [Diagram(title, x, y, series) for (title, x, y), series in found.items()]


def of_terms(found: Bound) -> Diagram:
    """The terms of a bound that has them, and what has been sent before each of them, over t."""
    named = found.named_terms()
    assert named is not None
    values = [t["bits_per_dim"] for t in named]
    t = list(range(len(values)))[::-1]
    sums = list(accumulate(values))
    title = f"{found.total:.3f} bits/dim: {found.rate:.3f} rate, {found.distortion:.3f} distortion"
    series = [Series("L_{t-1}, one term", t[1:-1], values[1:-1]), Series("sum so far: the rate", t[:-1], sums[:-1])]
    return Diagram(title, Axis("t", range=(t[0], 0)), Axis("bits/dim", "log"), series)


def kind_of(path: str | Path) -> str:
    """The kind of picture that a file is by its name; CodecError if it is none of KINDS."""
    kind = Path(path).suffix.lower()[1:]
    if kind not in KINDS:
        raise CodecError(f"{path}: the picture is one of {', '.join(KINDS)}")
    return kind


def plain(words: str) -> str:
    """The same for matplotlib, which would read formulas between dollars and draws no bytes of undecodable names."""
    return words.encode("utf-8", "backslashreplace").decode().replace("$", r"\$")


def draw(diagrams: list[Diagram], kind: str = "png") -> bytes:
    """A picture of them side by side, at most two in a row, one of KINDS. A name has one colour throughout.

    ValueError if there are none.
    """
    if not diagrams:
        raise ValueError("there is no diagram to draw")
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator

    columns = min(2, len(diagrams))
    rows = -(-len(diagrams) // columns)
    figure = Figure(figsize=(7 * columns, 5 * rows), layout="constrained")
    names = list(dict.fromkeys(s.name for d in diagrams for s in d.series))
    ours = [name for name in names if name.startswith(OURS)]
    others = [name for name in names if name not in ours]
    colour = {name: SHADES[min(i, len(SHADES) - 1)] for i, name in enumerate(ours)}
    colour |= {name: f"C{i % 10}" for i, name in enumerate(others)}
    for i, d in enumerate(diagrams):
        axes = figure.add_subplot(rows, columns, i + 1)
        for s in d.series:
            style = {"linewidth": 2.2 if s.name in ours else 1.3, "zorder": 3 if s.name in ours else 2}
            axes.plot(s.x, s.y, label=plain(s.name), color=colour[s.name], **style, **STYLES[s.style])
        axes.set(title=plain(d.title), xlabel=plain(d.x.label), ylabel=plain(d.y.label))
        axes.set(xscale=d.x.scale, yscale=d.y.scale)
        for scale, side in ((d.x.scale, axes.xaxis), (d.y.scale, axes.yaxis)):
            if scale == "log":
                side.set_major_locator(LogLocator(subs=(1, 2, 5)))
                side.set_major_formatter("{x:g}")
                side.set_minor_formatter("")
        axes.set_xlim(d.x.range)
        axes.set_ylim(d.y.range)
        axes.grid(alpha=0.3)
        if d.series:
            axes.legend(fontsize=8)
    out = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": OURS, "svg.fonttype": "none"}):
        figure.savefig(out, format=kind, dpi=110, **HOW[kind])
    return out.getvalue()
