"""How fast pictures are encoded, decoded, measured and trained on, where the time goes, and how near that is to what
the device can do.

    python -m bench.speed [--model photo,cifar10] [--sizes 32,64,256] [--batches 1,16] [--what encode,decode,bpd,train]
        [--rate 0.2] [--device auto] [--bf16] [--compile] -o speed.json -p speed.png

Every job is done once to warm up, then several times; a row is the median of these. The peak is that of a product of
large matrices in the same arithmetic, by as many threads. What tables and JSON call a look is one evaluation of
the network for one picture, in training with the way back; some evaluations of the codec are at a lower resolution, and
GFLOP are the mean over all of them.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from types import SimpleNamespace

import click
from tqdm import tqdm

from bench.harness.command import COUNT, command, listed
from bench.harness.jobs import Bpd, Decode, Encode, Job, Train, preset_of
from bench.harness.watch import Watch
from bench.metrics.flops import flops_per_evaluation, peak
from bench.reporting.output import finish_parts, output_options
from bench.reporting.run import Run
from bench.reporting.table import Table
from codec import CodecError
from codec.device import pick_device
from codec.diagrams import Axis, Diagram, Series
from codec.errors import as_mistakes
from ddpm.groups import grouped
from ddpm.models.load import load_model
from ddpm.models.model import DDPM, strict_fp32

PARTS = ("convolutions", "network", "channel", "entropy", "transfers", "rest")  # those of exact networks apart
WHAT = ("encode", "decode", "bpd", "train")


def jobs(model, what, sizes, batches, rates, *, bf16: bool, compiled: bool, most: int) -> Iterator[Job]:
    """Sizes beyond the one that a model was made for are left out, and batches of more than ``most`` pixels in all."""
    sizes = [size for size in sizes if size <= (model.config.get("native") or size)]
    for size, batch in [(size, batch) for size in sizes for batch in batches if batch == 1 or batch * size**2 <= most]:
        for rate in rates if {"encode", "decode"} & {*what} else ():
            source = Encode(model, size, batch, rate)
            yield from (job for job in (source, Decode(source)) if job.what in what)
        if "bpd" in what:
            yield Bpd(model, size, batch, bf16)
    if "train" in what and (preset := preset_of(model.name, model.device)):
        yield Train(preset, model.device, compiled)


def measure(job: Job, repeats: int, patience: float) -> dict:
    """The part of a row that is measured, of the median run; none is begun after ``patience`` seconds but the first."""
    device = job.model.device
    job()
    start, runs = time.monotonic(), []
    while len(runs) < repeats and (not runs or time.monotonic() - start < patience):
        evaluations: Counter[tuple[int, int]] = Counter()  # (height, width) -> how many
        with Watch(device) as watch:
            job.watch(watch, lambda z, seen=evaluations: seen.update({tuple(z.shape[2:]): len(z)}))
            with watch.part("rest"):
                job()
        runs.append((watch.total, watch.seconds, evaluations))
    total, seconds, evaluations = sorted(runs, key=lambda run: run[0])[(len(runs) - 1) // 2]
    flop = sum(n * flops_per_evaluation(job.model, *size, job.training) for size, n in evaluations.items())
    rate, best = flop / total / 1e12, peak(device, job.dtype)
    return {
        "repeats": len(runs),
        "seconds": total / job.batch,
        "megapixels_per_s": job.batch * job.size**2 / total / 1e6,
        "shares": {part: seconds[part] / total for part in PARTS},
        "looks": evaluations.total() / job.batch,
        "gflop_per_look": flop / evaluations.total() / 1e9,
        "tflop_per_s": rate,
        "peak_tflop_per_s": best,
        "share_of_peak": rate / best,
    }


def rows_of(asked: list[tuple[DDPM, Job]], run: Run, repeats: int, patience: float) -> Iterator[dict]:
    bar = tqdm(asked, desc="jobs", disable=None)
    for model, job in bar:
        bar.set_postfix_str(f"{model.name} {job.what} {job.size} x{job.batch}")
        about = {"model": model.name, "device": run.head["device"], "threads": run.head["threads"], "what": job.what}
        about |= {"size": job.size, "batch": job.batch, "arithmetic": job.arithmetic, **job.more}
        yield about | measure(job, repeats, patience)


def kind(row: dict) -> str:
    """What is done, in words."""
    if "rate" in row:
        return f"{row['what']}, {row['rate']} bits/dim" if row["rate"] else f"{row['what']}, lossless"
    return f"{row['what']}, compiled" if row.get("compiled") else row["what"]


def place(row: dict) -> str:
    return f"{row['device']}, {row['threads']} thread{'s' * (row['threads'] > 1)}"


def curve(row: dict, several_places: bool) -> str:
    """What the series of a row is called in a diagram of its kind."""
    words = [row["model"]] if row["what"] == "train" else [row["model"], f"batch {row['batch']}"]
    words += ["bf16"] * (row["arithmetic"] == "bfloat16") + [place(row)] * several_places
    return ", ".join(words)


def present(result: dict) -> tuple[list[Diagram], list[Table]]:
    """Throughput over size, one diagram for each kind of work; speed, shares of time, peaks."""
    rows, several = result["rows"], len({place(r) for r in result["rows"]}) > 1
    diagrams = []
    for title, of_kind in grouped(rows, kind).items():
        curves = grouped(of_kind, lambda r: curve(r, several))
        points = {name: sorted((r["size"], r["megapixels_per_s"]) for r in group) for name, group in curves.items()}
        series = [Series(name, *map(list, zip(*found)), "files") for name, found in points.items()]
        diagrams.append(Diagram(title, Axis("pixels a side", "log"), Axis("megapixels/s", "log"), series))
    about = ["model", "what", "size", "batch", "arithmetic"] + ["device"] * several
    where = [
        [r["model"], kind(r), str(r["size"]), str(r["batch"]), r["arithmetic"], *[place(r)] * several] for r in rows
    ]
    speeds = [
        [
            f"{r['seconds']:.3g}",
            f"{r['megapixels_per_s']:.3g}",
            f"{r['looks']:.3g}",
            f"{r['gflop_per_look']:.3g}",
            f"{r['tflop_per_s']:.3g}",
            f"{r['share_of_peak']:.1%}",
            f"{r['share_of_peak'] / (r['shares'].get('convolutions', 0) + r['shares']['network']):.1%}",
        ]
        for r in rows
    ]
    shares = [[f"{100 * s[part]:.1f}" if part in s else "" for part in PARTS] for s in (r["shares"] for r in rows)]
    found = {(place(r), r["arithmetic"], f"{r['peak_tflop_per_s']:.3g}"): None for r in rows}
    columns = ["s per picture", "MP/s", "looks", "GFLOP per look", "TFLOP/s", "of peak", "of peak, network alone"]
    tables = [
        Table("speed", about + columns, [a + b for a, b in zip(where, speeds)]),
        Table("shares of time, %", about + list(PARTS), [a + b for a, b in zip(where, shares)]),
        Table("peaks", ["device", "arithmetic", "TFLOP/s"], [list(line) for line in found]),
    ]
    return diagrams, tables


@command()
@click.option("--model", "names", default="photo,cifar10", show_default=True, callback=listed(str))
@click.option("--what", default=",".join(WHAT), show_default=True, callback=listed(str, among=WHAT))
@click.option("--sizes", default="32,64,256", show_default=True, callback=listed(int, 1), help="Pixels a side.")
@click.option("--batches", default="1,16", show_default=True, callback=listed(int, 1), help="Pictures at once.")
@click.option(
    "--most", type=COUNT, default=1 << 14, show_default=True, help="Pixels of a batch; larger ones are left out."
)
@click.option("--rate", default="0.2", show_default=True, callback=listed(float, 0), help="Bits/dim; 0: lossless.")
@click.option("--repeats", type=COUNT, default=3, show_default=True)
@click.option("--patience", default=6.0, show_default=True, help="Seconds after which nothing is repeated.")
@click.option("--bf16", is_flag=True, help="Measure the bound in bfloat16.")
@click.option("--compile", "compiled", is_flag=True, help="Train with torch.compile, which takes minutes to warm up.")
@click.option("--device", default="auto", show_default=True)
@output_options
def main(names, what, sizes, batches, most, rate, repeats, patience, bf16, compiled, device, output, plot):
    """Measure speed, shares of time, and the share of the device's peak."""
    strict_fp32()
    with as_mistakes():
        models = [load_model(name, pick_device(device)) for name in names]
        how = {"bf16": bf16, "compiled": compiled, "most": most}
        asked = [(m, job) for m in models for job in jobs(m, what, sizes, batches, rate, **how)]
    if not asked:
        raise CodecError("nothing to measure: these models know no such sizes")
    all_of_them = SimpleNamespace(
        name=", ".join(m.name for m in models),
        fingerprint=b"".join(m.fingerprint for m in models),
        device=models[0].device,
    )
    run = Run("speed", all_of_them, rates=rate, repeats=repeats, patience=patience)
    finish_parts(run, ([row] for row in rows_of(asked, run, repeats, patience)), output, plot)


if __name__ == "__main__":
    main()
