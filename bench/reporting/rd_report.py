"""What bench.rate_distortion measured, as diagrams and tables."""

from __future__ import annotations

import math
from contextlib import suppress

import numpy as np

from bench.baselines import literature
from bench.baselines.literature import Published, published
from bench.baselines.peers import titled
from bench.metrics.bd import ahead, bd_rate, extra_bits, in_common, log_rate, lower_envelope
from codec.api import psnr
from codec.diagrams import Axis, Diagram, Series
from ddpm.groups import grouped

from .run import pooled
from .table import Table

NATIVE = [32, 32]  # of CIFAR-10: to such pictures what is published can be compared
PAPER = "DDPM, T = 1000 (Ho et al. 2020)"
LIMIT = "VDM, T = 1000 (Yang et al. 2025)"
MEASURED = ("JPEG", "JPEG 2000")  # with a codec of our own run in the diagrams, not as published
COUNTS = {"whole files": "bits_per_dim", "payload": "payload_bits_per_dim"}
AT = range(18, 46, 3)  # dB
MOST = 250  # points of a curve in a diagram
SAME = ("kind", "name", "how", "setting")
FEW = "mean, few"  # files of the pictures that the ideal chain at T levels is of


def present(result: dict) -> tuple[list[Diagram], list[Table]]:
    """Diagrams and tables from the rows alone; those of other pictures at the same setting are averaged first."""
    rows = by_setting(result["rows"])
    others = published("cifar10") if result["settings"]["size"] == NATIVE else {}
    made = (files_table(rows), *progressive_tables(rows, others), peers_table(rows), statements(rows, others))
    return diagrams(rows, others), [table for table in made if table.rows]


def by_setting(rows: list[dict]) -> list[dict]:
    """Rows of one kind, name and setting as one. By rising rate."""
    groups = grouped(rows, lambda row: tuple(row.get(key) for key in SAME))
    return sorted(map(pooled, groups.values()), key=lambda row: row["setting"])


def of(rows: list[dict], kind: str, name: str | None = None) -> list[dict]:
    return [row for row in rows if row["kind"] == kind and name in (None, row["name"])]


def points(rows: list[dict], key: str = "bits_per_dim") -> list[tuple[float, float]]:
    """(rate, PSNR) of files, in bits/dim by ``key`` and dB."""
    return [(row[key], psnr(row["mse"])) for row in rows]


def best(rows: list[dict], name: str, key: str = "bits_per_dim") -> list[dict]:
    """Another codec's rows that none of its other settings undercuts, by rising PSNR."""
    ways = list(grouped(of(rows, "peers", name), lambda row: row["how"]).values())
    if len(ways) == 1:
        return ways[0]
    return [ways[i][k] for i, k in lower_envelope([points(part, key) for part in ways])]


def ideal_points(row: dict) -> list[tuple[float, float]]:
    """(rate, PSNR of the pictures as shown) of a chain."""
    return [(rate, psnr(mse)) for rate, mse in zip(row["bits_per_dim"], row["mse_shown"])]


def printed_points(curve: Published, key: str = "psnr") -> list[tuple[float, float]]:
    return [(p["bits_per_dim"], p[key]) for p in curve.points]


def label(row: dict) -> str:
    """What a row of an ideal chain is called."""
    return f"T = {row['setting']}" if row["name"] == "levels" else "own steps"


def series(name: str, found, style: str) -> Series:
    """Of (x, y) pairs, at most MOST of them, evenly spread and with both ends."""
    found = [pair for pair in found if all(map(math.isfinite, pair))]
    keep = np.unique(np.linspace(0, len(found) - 1, min(len(found), MOST)).round().astype(int))
    return Series(name, [found[i][0] for i in keep], [found[i][1] for i in keep], style)


def seen(curve: Series, x: Axis) -> Series:
    """The part of a curve that a diagram shows: no rate of 0 on a logarithmic axis."""
    keep = [i for i, value in enumerate(curve.x) if value >= x.range[0]]
    return Series(curve.name, [curve.x[i] for i in keep], [curve.y[i] for i in keep], curve.style)


def diagrams(rows: list[dict], others: dict[str, Published]) -> list[Diagram]:
    """The paper's figure 5, and PSNR over rate with other codecs."""
    shown = {name: c for name, c in others.items() if name.split(" (")[0] not in MEASURED}
    mean, limits = of(rows, "files", "mean"), {f"ddpm-codec, ideal, {label(row)}": row for row in of(rows, "ideal")}
    names = dict.fromkeys(row["name"] for row in of(rows, "peers"))

    log = Axis("bits/dim", "log", (0.01, 5))
    quality = [series("ddpm-codec, files", points(mean), "files")]
    quality += [series("ddpm-codec, payload", points(mean, "payload_bits_per_dim"), "files")]
    quality += [series(name, ideal_points(row), "ideal") for name, row in limits.items()]
    quality += [series(name, points(best(rows, name)), "files") for name in names]
    quality += [series(name, printed_points(c), "published") for name, c in shown.items()]

    low = Axis("bits/dim", "log", (0.0005, 5))
    error = [series("ddpm-codec, files", rmse_points(mean), "files")]
    for name, style in {"flow": "files", "sample": "points"}.items():
        error.append(series(f"ddpm-codec, recon {name}", rmse_points(of(rows, "files", name)), style))
    error += [series(name, zip(row["bits_per_dim"], rmse(row)), "ideal") for name, row in limits.items()]
    error += [series(name, printed_points(c, "rmse"), "published") for name, c in shown.items()]

    levels = {name: row for name, row in limits.items() if row["name"] == "levels"}
    rates = [series(name, enumerate(row["bits_per_dim"], 1), "ideal") for name, row in levels.items()]
    errors = [series(name, enumerate(rmse(row), 1), "ideal") for name, row in levels.items()]
    if PAPER in others and any(row["setting"] == others[PAPER].points[0]["reverse_steps"] for row in levels.values()):
        for found, key in ((rates, "bits_per_dim"), (errors, "rmse")):
            found.append(series(PAPER, [(p["reverse_steps"], p[key]) for p in others[PAPER].points], "published"))
    steps = Axis("reverse steps, T - t + 1")
    made = [
        Diagram("PSNR over rate", log, Axis("PSNR, dB", "linear", (14, 46)), [seen(s, log) for s in quality]),
        Diagram("RMSE over rate", low, Axis("RMSE, grey levels", "linear", (0, 70)), [seen(s, low) for s in error]),
        Diagram("Rate over reverse steps", steps, Axis("bits/dim"), rates),
        Diagram("Distortion over reverse steps", steps, Axis("RMSE, grey levels"), errors),
    ]
    return [Diagram(d.title, d.x, d.y, [s for s in d.series if s.x]) for d in made]


def rmse(row: dict) -> list[float]:
    return [math.sqrt(mse) for mse in row["mse"]]


def rmse_points(rows: list[dict]) -> list[tuple[float, float]]:
    return [(row["bits_per_dim"], math.sqrt(row["mse"])) for row in rows]


def files_table(rows: list[dict]) -> Table:
    """Real files; PSNR of the other reconstructions is over fewer pictures."""
    others = {name: of(rows, "files", name) for name in ("flow", "sample")}
    extra = {name: {r["setting"]: f"{psnr(r['mse']):.2f}" for r in found} for name, found in others.items() if found}
    columns = ["steps", "bits/dim", "of which payload", "sum of KL", "RMSE", "PSNR, dB"]
    table = Table("files", [*columns, *(f"PSNR, {name}" for name in extra), "s/picture"], [])
    for row in of(rows, "files", "mean"):
        rates = [f"{row[key]:.3f}" for key in ("bits_per_dim", "payload_bits_per_dim", "kl_bits_per_dim")]
        drawn = [found.get(row["setting"], "") for found in extra.values()]
        quality = [f"{math.sqrt(row['mse']):.2f}", f"{psnr(row['mse']):.2f}", *drawn]
        table.rows.append([str(row["setting"]), *rates, *quality, f"{row['encode_s']:.2f}"])
    return table


def progressive_tables(rows: list[dict], others: dict[str, Published]) -> list[Table]:
    """Table 4 of the paper, the same of our chain, and both bounds."""
    sides, bounds = [], Table("bound", ["", "rate", "distortion", "bits/dim", "RMSE"], [])
    for row in of(rows, "ideal", "levels"):
        sides.append(progressive_table(row, others.get(PAPER)))
        rate, last = row["bits_per_dim"][-1], row["distortion"]
        figures = [f"{v:.3f}" for v in (rate, last, rate + last)]
        bounds.rows.append([f"ddpm-codec, {label(row)}", *figures, f"{rmse(row)[-1]:.2f}"])
    if bounds.rows and others:
        error = f"{others[PAPER].points[0]['rmse']:.2f}"
        for name, parts in literature.bounds():
            bounds.rows.append([name, *parts, error if parts[0] else ""])
    return [*sides, bounds]


def progressive_table(row: dict, paper: Published | None) -> Table:
    """Rate and RMSE after every tenth part of T reverse steps; beside the paper's if T is the same.

    The last column is our rate at the RMSE of the paper.
    """
    T, error, curve = row["setting"], rmse(row), None
    table = Table(f"progressive, T = {T}", ["reverse steps", "rate, bits/dim", "RMSE"], [])
    if paper and paper.points[0]["reverse_steps"] == T:
        table.columns.extend(["paper's rate", "paper's RMSE", "our rate at that RMSE"])
        theirs = {p["reverse_steps"]: p for p in paper.points}
        curve = log_rate([(rate, -e) for rate, e in monotone(row["bits_per_dim"], error)])
    for k in sorted({max(1, round(T * tenth / 10)) for tenth in range(1, 11)}, reverse=True):
        cells = [str(k), f"{row['bits_per_dim'][k - 1]:.5f}", f"{error[k - 1]:.2f}"]
        if curve:
            at = float(curve(-theirs[k]["rmse"]))
            cells += [f"{theirs[k]['bits_per_dim']:.5f}", f"{theirs[k]['rmse']:.2f}"]
            cells += [f"{math.exp(at):.5f}" if math.isfinite(at) else ""]
        table.rows.append(cells)
    return table


def monotone(rate: list[float], error: list[float]) -> list[tuple[float, float]]:
    """(rate, error) where the error is less than ever before: a measured curve may waver."""
    found, least = [], math.inf
    for pair in zip(rate, error):
        if pair[1] < least:
            found.append(pair)
            least = pair[1]
    return found


def peers_table(rows: list[dict]) -> Table:
    """BD-rate of our files against other codecs at their best, with all bytes and without what is not for pixels."""
    table = Table("peers", ["bits at equal PSNR (BD-rate)", "PSNR in common, dB", *COUNTS], [])
    mean = of(rows, "files", "mean")
    for name in dict.fromkeys(row["name"] for row in of(rows, "peers")):
        with suppress(ValueError):
            theirs = {key: best(rows, name, key) for key in COUNTS.values()}
            ways = titled(name, (row["how"] for part in theirs.values() for row in part))
            low, high = in_common(log_rate(points(mean)), log_rate(points(theirs["bits_per_dim"])))
            found = [f"{bd_rate(points(mean, k), points(part, k)):+.1f} %" for k, part in theirs.items()]
            table.rows.append([f"against {ways}", f"{low:.1f} to {high:.1f}", *found])
    return table


def statements(rows: list[dict], others: dict[str, Published]) -> Table:
    """How far files are from ideal curves, and at which of their rates they are better than what others published.

    What is published counts no headers in the case of UQDM and VDM: the payload is to be compared with them.
    """
    table, mean = Table("statements", ["", *COUNTS], []), of(rows, "files", "mean")
    if len(mean) < 2:
        return table
    for row in of(rows, "ideal"):
        ours = next((m for m in (mean, of(rows, "files", FEW)) if m and m[0]["images"] == row["images"]), mean)
        beside = "" if ours[0]["images"] == row["images"] else f", beside {ours[0]['images']} as files"
        name = f"our ideal chain, {label(row)}, {row['images']} pictures{beside}"
        extra(table, name, ours, increasing(ideal_points(row)))
    if LIMIT in others:
        extra(table, LIMIT, mean, printed_points(others[LIMIT]))
    for name, curve in others.items():
        if not curve.ideal:
            found = [ranges(points(mean, key), printed_points(curve)) for key in COUNTS.values()]
            table.rows.append([f"higher PSNR than {name} at", *found])
    return table


def extra(table: Table, name: str, ours: list[dict], limit: list[tuple[float, float]]) -> None:
    """Rows: by how many bits files are over a limit."""
    for at in AT:
        with suppress(ValueError):
            found = [extra_bits(points(ours, key), limit, at) for key in COUNTS.values()]
            if None not in found:
                table.rows.append([f"bits over {name}, at {at} dB", *(f"{v:+.0f} %" for v in found)])


def increasing(found: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """The points of a curve at which PSNR is higher than ever before."""
    return [(rate, -e) for rate, e in monotone([r for r, _ in found], [-p for _, p in found])]


def ranges(ours, theirs) -> str:
    """The rates at which ours is ahead, in words."""
    try:
        found = ahead(ours, theirs)
    except ValueError:
        return "not comparable"
    return ", ".join(f"{a:.3f} to {b:.3f} bits/dim" for a, b in found) or "no rate"
