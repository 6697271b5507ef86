"""The channel simulation alone, the codec's trellis beside its peers: bits, efficiency, sample bias and time.

    python -m bench.channel [--dims 3072] [--bits 32,64,128,256,512] [--memory 10,14] [--schemes trellis,pfr] -o FILE
    python -m bench.channel --chain [--model cifar10] -o FILE    # the channels of a real picture's chain

All schemes get the same deltas, and all bits that a decoder needs are counted, of whole messages whose end is known;
both sides know the KL of a channel, as the codec's tables tell it. An efficiency of 1 is the limit of true samples; a
best path or candidate is none, and its limit at r = 0 is D (2^(2S/D) - 1) / (2 ln2 S), which is shown too. A row has
--draws draws or as many as --seconds allow, two at least. Tables of labels and candidates are made before the clock
starts. What the columns mean: channels/measure.py; with --chain they are sums over steps, bits and seconds, and means
weighted by KL.
"""

from __future__ import annotations

import click
import numpy as np
import torch
from tqdm import tqdm

from bench.channels.best_of_n import MOST_BITS
from bench.channels.cases import directions, walk
from bench.channels.compare import at_equal_bits, in_equal_time
from bench.channels.measure import limit, measure, settings
from bench.channels.pfr import LIMIT
from bench.harness.command import COUNT, POSITIVE, command, listed
from bench.reporting.output import finish, output_options
from bench.reporting.run import Run
from bench.reporting.table import Table
from codec import Codec
from codec.diagrams import OURS, Axis, Diagram, Series
from ddpm.groups import grouped

from .method import small_picture

SCHEMES = ("trellis", "random-labels", "sampled", "best-of-n", "pfr", "dithered")


def over_steps(rows: list[dict]) -> list[dict]:
    """One row for each scheme and setting, of a whole chain."""
    return [_sum(group) for group in grouped(rows, lambda r: named(r["scheme"], r["parameters"])).values()]


def _sum(rows: list[dict]) -> dict:
    kl = np.array([r["kl"] for r in rows])
    total = {key: sum(r[key] for r in rows) for key in ("kl", "bits", "encode_seconds", "decode_seconds")}
    means = {
        key: float(np.average([r[key] for r in rows], weights=kl))
        for key in ("mean_along_over_target", "variance_across", "given_up")
    }
    e = sum(r["efficiency"] * r["bits"] for r in rows) / total["bits"]
    return rows[0] | total | means | {"bits_over_kl": total["bits"] / total["kl"], "efficiency": e}


def named(scheme: str, parameters: dict) -> str:
    return " ".join([scheme, *(f"{k} {v:g}" for k, v in parameters.items())])


def present(result: dict) -> tuple[list[Diagram], list[Table]]:
    """The table, whose columns are those of ``measure``; efficiency over KL; the largest trellis beside the others."""
    rows = result["rows"]
    rows = over_steps(rows) if any("step" in r for r in rows) else rows
    columns = ["", "KL", "bits / KL", "efficiency", "along / target", "variance across", "given up", "s", "s to decode"]
    lines = [
        [
            named(r["scheme"], r["parameters"]),
            f"{r['kl']:.0f}",
            f"{r['bits_over_kl']:.3f}",
            f"{r['efficiency']:.3f}" + (f" +- {e:.3f}" if (e := r["efficiency_stderr"]) is not None else ""),
            f"{r['mean_along_over_target']:.3f}",
            f"{r['variance_across']:.3f}",
            f"{r['given_up']:.1%}",
            f"{r['encode_seconds']:.3f}",
            f"{r['decode_seconds']:.4f}",
        ]
        for r in rows
    ]
    tables = [
        Table("channel", columns, lines),
        with_limits(by_kl("efficiency", rows, "efficiency", ".3f"), rows),
        by_kl("seconds to encode", rows, "encode_seconds", ".2g"),
    ]
    for other in ("best-of-n", "pfr"):
        tables += [t for t in comparisons(rows, other) if t.rows]
    return [over_kl(rows)], tables


def by_kl(name: str, rows: list[dict], key: str, how: str) -> Table:
    """One figure of each scheme, over the bits of KL."""
    kls = sorted({round(r["kl"]) for r in rows})
    table = Table(name, ["bits of KL", *map(str, kls)], [])
    found = {(named(r["scheme"], r["parameters"]), round(r["kl"])): f"{r[key]:{how}}" for r in rows}
    for scheme in dict.fromkeys(scheme for scheme, _ in found):
        table.rows.append([scheme, *(found.get((scheme, kl), "") for kl in kls)])
    return table


def limits(rows: list[dict]) -> list[tuple[float, float]]:
    """(KL, the limit of a best path with a bit for each of KL), by rising KL; none for the channels of a chain."""
    if any("step" in r for r in rows):
        return []
    return [(kl, limit(dims, kl)) for dims, kl in sorted({(r["dims"], round(r["kl"])) for r in rows})]


def with_limits(table: Table, rows: list[dict]) -> Table:
    """Efficiencies, and what they can be."""
    found = limits(rows)
    if found:
        table.rows.append(["limit of samples", *["1"] * len(found)])
        table.rows.append(["limit of a best path", *(f"{e:.3f}" for _, e in found)])
    return table


def comparisons(rows: list[dict], other: str) -> list[Table]:
    """Of the largest trellis with another scheme, in the order of bits."""
    most = max((r["parameters"]["memory"] for r in rows if r["scheme"] == "trellis"), default=0)

    def lines(pairs: list[dict], by: str, last) -> list[list[str]]:
        ours = [p for p in pairs if p["memory"] == most]
        return [
            [
                f"{p[by]:.0f}",
                f"{p['efficiency']:.3f}",
                named(other, p["other"]),
                f"{p['other_efficiency']:.3f}",
                last(p),
            ]
            for p in ours
        ]

    equal = lines(at_equal_bits(rows, other), "bits", lambda p: f"{p['saved']:.0%}")
    timed = lines(in_equal_time(rows, other), "kl", lambda p: f"{p['times']:.2g}")
    head = ["trellis, efficiency", "other", "efficiency"]
    return [
        Table(f"{other}, at equal bits", ["bits", *head, "fewer bits for the same"], equal),
        Table(f"{other}, in equal time", ["KL", *head, "time / the trellis'"], timed),
    ]


def over_kl(rows: list[dict]) -> Diagram:
    """Efficiency of each scheme and setting."""
    groups = grouped(rows, lambda r: f"{OURS}, " * (r["scheme"] == "trellis") + named(r["scheme"], r["parameters"]))
    points = {name: sorted((r["kl"], r["efficiency"]) for r in group) for name, group in groups.items()}
    series = [Series(name, *map(list, zip(*found)), "files") for name, found in points.items()]
    if found := limits(rows):
        series.append(Series("limit of a best path", *map(list, zip(*found)), "ideal"))
        series.append(Series("limit of samples", [found[0][0], found[-1][0]], [1.0, 1.0], "ideal"))
    return Diagram("channel simulation", Axis("KL, bits", "log"), Axis("efficiency", range=(0, 1.2)), series)


@command()
@click.option("--dims", type=COUNT, default=3072, show_default=True)
@click.option(
    "--bits", default="32,64,128,256,512", show_default=True, callback=listed(float, 1), help="KL of a channel."
)
@click.option("--schemes", default=",".join(SCHEMES), show_default=True, callback=listed(str, among=SCHEMES))
@click.option("--memory", default="10,14", show_default=True, callback=listed(int, 1, 20), help="Of the trellis, bits.")
@click.option(
    "--chunk", default="8,12,16", show_default=True, callback=listed(int, 1, MOST_BITS), help="Of best-of-n, bits."
)
@click.option(
    "--pfr-chunk",
    default="2,4",
    show_default=True,
    callback=listed(float, 0.1),
    help="Of pfr, bits of KL; time grows by 4 a bit or more.",
)
@click.option(
    "--pfr-limit",
    type=click.IntRange(1, 30),
    default=LIMIT,
    show_default=True,
    help="log2 of the candidates of a chunk of pfr.",
)
@click.option(
    "--draws", type=click.IntRange(2), default=60, show_default=True, help="Of a row; with --chain, of each step."
)
@click.option(
    "--seconds", type=POSITIVE, default=3.0, show_default=True, help="For a row; with --chain, for each step."
)
@click.option("--chain", is_flag=True, help="Channels of a small photograph's chain, not random directions.")
@click.option("--model", default="cifar10", show_default=True, help="For --chain.")
@click.option("--threads", type=COUNT, default=1, show_default=True)
@output_options
def main(dims, bits, schemes, memory, chunk, pfr_chunk, pfr_limit, draws, seconds, chain, model, threads, output, plot):
    """Efficiency of the trellis and its peers, by message length or over a chain."""
    if not chain and max(bits) > dims:
        raise click.BadParameter(f"a channel of {dims} dimensions has at most as many bits", param_hint="--bits")
    torch.set_num_threads(threads)
    chosen = [s for s in settings(memory, chunk, pfr_chunk, pfr_limit) if s.scheme in schemes]
    codec = Codec(model, "cpu") if chain else None
    run = Run("channel", codec and codec.model, dims=dims, seconds=seconds)
    if chain:
        steps = walk(codec, small_picture())
        groups = [[step.scrambled(seed, k) for seed in range(draws)] for k, step in enumerate(steps)]
    else:
        groups = [directions(dims, b, draws) for b in bits]
    rows = []
    for k, cases in enumerate(tqdm(groups, disable=None)):
        rows += [({"step": k} if chain else {}) | measure(setting, cases, seconds) for setting in chosen]
    result = run.result(rows)
    finish(result, output, plot)


if __name__ == "__main__":
    main()
