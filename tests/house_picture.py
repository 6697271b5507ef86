"""The picture of the house: a box for each room with its lines of source, arrows for what imports what, downward.

Left out are arrows that others imply, those to ``errors``, which all use, and those from one package to the next, where
everything may be used; and a package's entrances.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from statistics import fmean

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from matplotlib.path import Path as Line

from tests import house

WIDTH, ROW, BOX = 10.0, 0.74, (1.1, 0.4)  # inches: of the picture, from row to row, of a room
HEAD = 0.75  # of a package, beside its rows
GAP, PASSING = 0.22, 0.2  # between rooms; for an arrow that passes a row
COLOURS = {"bench": "#e8f0fa", "codec": "#fdf1e0", "ddpm": "#e9f5e6"}
WHAT = {
    "bench": "bench: one command for each curve or table",
    "codec": "codec: turns a model into bits",
    "ddpm": "ddpm: the probabilistic model",
}
SWEEPS = 24
Spot = tuple[str, str] | str  # a room, or an arrow that passes


def arrows(package: str) -> list[tuple[str, str]]:
    """Those that are drawn."""
    hidden = {f"{package}/{name}" for name in ("__main__", "__init__", "errors")}
    return [(a, b) for a, b in house.shown(package) if not {a, b} & hidden]


def ranks(package: str) -> dict[str, int]:
    """Room -> its row, right below what stands on it; what all use comes last."""
    rank: dict[str, int] = {}
    for room in (room for those in house.ORDER[package] for room in those if not room.endswith("__")):
        rank[room] = max((rank[a] + 1 for a, b in arrows(package) if b == room), default=0)
    return rank | {room: max(rank.values()) for room in rank if room.endswith("/errors")}


def rows(package: str) -> list[list[Spot]]:
    """Rooms, and arrows that pass, from the left to the right, so that few arrows cross."""
    rank = ranks(package)
    out: list[list[Spot]] = [[] for _ in range(max(rank.values()) + 1)]
    for room, row in rank.items():
        out[row].append(room)
    links: dict[int, list[tuple[Spot, Spot]]] = {row: [] for row in range(len(out))}  # from a row to the next
    for a, b in arrows(package):
        stops: list[Spot] = [a, *((a, f"{b}@{row}") for row in range(rank[a] + 1, rank[b])), b]
        for row, spot in enumerate(stops[1:-1], rank[a] + 1):
            out[row].append(spot)
        for row, pair in enumerate(pairwise(stops), rank[a]):
            links[row].append(pair)
    for sweep in range(SWEEPS):
        down = sweep % 2 == 0
        for row in range(1, len(out)) if down else range(len(out) - 2, -1, -1):
            other = out[row - 1 if down else row + 1]
            at = {spot: (i + 0.5) / len(other) for i, spot in enumerate(other)}
            pairs = [(b, a) for a, b in links[row - 1]] if down else links[row]
            own = {spot: (i + 0.5) / len(out[row]) for i, spot in enumerate(out[row])}
            near = {s: fmean([at[o] for x, o in pairs if x == s] or [own[s]]) for s in out[row]}
            out[row].sort(key=lambda spot: near[spot])
    return out


def places(row: list[Spot], y: float) -> dict[Spot, tuple[float, float]]:
    """The middle of each spot of a row, centred."""
    widths = [BOX[0] if isinstance(spot, str) else PASSING for spot in row]
    x = (WIDTH - sum(widths) - GAP * (len(row) - 1)) / 2
    out = {}
    for spot, width in zip(row, widths):
        out[spot] = (x + width / 2, y)
        x += width + GAP
    return out


def draw(output: Path) -> None:
    """Write the picture; in SVG an arrow's id is its ``label``."""
    with plt.rc_context({"svg.fonttype": "none", "svg.hashsalt": "house", "font.family": "sans-serif"}):
        drawn = {package: rows(package) for package in house.ORDER}
        height = sum(len(those) * ROW + HEAD for those in drawn.values())
        figure = plt.figure(figsize=(WIDTH, height), facecolor="white")
        axes = figure.add_axes((0, 0, 1, 1), xlim=(0, WIDTH), ylim=(0, height))
        axes.axis("off")
        top = height
        for package, those in drawn.items():
            bottom = top - len(those) * ROW - HEAD
            draw_package(axes, package, those, top, bottom)
            top = bottom
        figure.savefig(output, metadata={"Date": None} if output.suffix == ".svg" else None)
        plt.close(figure)


def draw_package(axes, package: str, those: list[list[Spot]], top: float, bottom: float) -> None:
    frame = FancyBboxPatch((0.15, bottom + 0.22), WIDTH - 0.3, top - bottom - 0.3, boxstyle="round,pad=0.02")
    frame.set(facecolor=COLOURS[package], edgecolor="#999999", linewidth=0.8, zorder=0)
    axes.add_patch(frame)
    lines = house.rooms()
    inside = sum(n for room, n in lines.items() if room.partition("/")[0] == package)
    axes.text(0.3, top - 0.3, WHAT[package], fontsize=11, weight="bold", va="center")
    axes.text(WIDTH - 0.3, top - 0.3, f"{inside:,} lines", fontsize=9, va="center", ha="right", color="#555555")
    at: dict[Spot, tuple[float, float]] = {}
    for i, row in enumerate(those):
        at |= places(row, top - 0.85 - i * ROW)
    for a, b in arrows(package):
        stops = [at[a], *(at[s] for row in those for s in row if s[0] == a and s[1].startswith(f"{b}@")), at[b]]
        arrow(axes, stops, label(a, b))
    for room, (x, y) in at.items():
        if isinstance(room, str):
            box = FancyBboxPatch((x - BOX[0] / 2, y - BOX[1] / 2), *BOX, boxstyle="round,pad=0.02")
            box.set(facecolor="white", edgecolor="#444444", linewidth=0.8, zorder=3)
            axes.add_patch(box)
            name = "commands" if room == package else room.partition("/")[2]
            grey = {"fontsize": 7.5, "color": "#555555"}
            axes.text(x, y + 0.07, name, fontsize=9.5, ha="center", va="center", zorder=4)
            axes.text(x, y - 0.12, f"{lines[room]:,}", ha="center", va="center", zorder=4, **grey)
    if package != list(house.ORDER)[-1]:
        x = WIDTH / 2
        down = FancyArrowPatch((x, bottom + 0.2), (x, bottom - 0.06), arrowstyle="simple", mutation_scale=18)
        down.set(color="#999999", zorder=2)
        axes.add_patch(down)


def label(a: str, b: str) -> str:
    """``codec.cli-codec.api``."""
    return f"{a}-{b}".replace("/", ".")


def arrow(axes, stops: list[tuple[float, float]], name: str) -> None:
    """From the lower edge of a room to the upper edge of another, upright where it passes a row."""
    half = BOX[1] / 2
    points, codes = [(stops[0][0], stops[0][1] - half)], [Line.MOVETO]
    for x, y in stops[1:]:
        from_x, from_y = points[-1]
        middle = (from_y + y + half) / 2
        points += [(from_x, middle), (x, middle), (x, y + half), (x, y - half)]
        codes += [Line.CURVE4] * 3 + [Line.LINETO]
    points, codes = points[:-1], codes[:-1]
    patch = FancyArrowPatch(path=Line(points, codes), arrowstyle="-|>", mutation_scale=9)
    patch.set(color="#555555", facecolor="none", linewidth=0.8, zorder=2, gid=name)
    axes.add_patch(patch)
