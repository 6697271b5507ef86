"""The variational bound of a whole test set by the number of steps, beside what the paper reports of its own networks.

    python -m bench.bounds DATA [DATA ...] [--tile 32] [--images N] [--steps 100,1000,inf] [--samples 2]
        [--model cifar10] [--context] -o bounds.json -p bounds.png

Rate and distortion as in Ho et al. 2020, table 1: sum of KL, and L_0. The terms of each picture are drawn, so many of
them, evenly over t and all pictures; ``inf`` is the limit of infinitely many steps. Noise is that of the pictures'
numbers, so a figure does not depend on batches.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import click
from tqdm import tqdm

from bench.baselines import literature
from bench.harness.command import COUNT, command
from bench.harness.pick import load
from bench.reporting.output import finish_parts, output_options
from bench.reporting.run import Run
from bench.reporting.table import Table
from codec.device import pick_device
from codec.diagrams import OURS, Axis, Diagram, Series
from codec.terms import ContextTerms
from ddpm.diffusion.bound import bound, terms_for
from ddpm.diffusion.reverse import Reverse
from ddpm.images.batches import batches, some
from ddpm.models.load import load_model
from ddpm.models.model import strict_fp32

BATCH_PIXELS = 1 << 17


def measure(reverse: Reverse, pictures: list, steps: list[int | None], samples: int, context: bool) -> Iterator[dict]:
    """A row for each number of steps: the bound without its terms."""
    alike = batches(pictures, BATCH_PIXELS)
    found, numbers = [b.x for b in alike], [b.numbers for b in alike]
    for T in tqdm(steps, desc="steps", disable=None):
        terms = terms_for(reverse, T)
        terms = ContextTerms(terms) if context else terms
        row = bound(terms, found, samples=samples, numbers=numbers, quiet=None).to_json()
        del row["terms"]
        yield row | ({"context": True} if context else {})


def present(result: dict) -> tuple[list[Diagram], list[Table]]:
    """The table of bounds, and their total over T."""
    lines = []
    for r in result["rows"]:
        of = f"{OURS}, T = {r['steps']}, {r['images']:,} images" + ", L_0 of its code" * r.get("context", False)
        error = "" if r["stderr"] is None else f" +- {r['stderr']:.3f}"
        lines.append([of, f"{r['rate']:.3f}", f"{r['distortion']:.3f}", f"{r['total']:.3f}{error}"])
    lines += [[name, *parts] for name, parts in literature.bounds()]
    plain = [r for r in result["rows"] if not r.get("context")]
    ends = [r for r in plain if r["steps"] != "infinity"]
    series = [Series(OURS, [r["steps"] for r in ends], [r["total"] for r in ends], "ideal")]
    for r in plain:
        if r["steps"] == "infinity" and ends:
            span = [min(e["steps"] for e in ends), max(e["steps"] for e in ends)]
            series.append(Series("in the limit", span, [r["total"]] * 2, "published"))
    diagrams = [Diagram("bound by steps", Axis("T", "log"), Axis("bits/dim"), series)] if ends else []
    return diagrams, [Table("bound", ["", "rate", "distortion", "bits/dim"], lines)]


def levels(context, parameter, value: str) -> list[int | None]:
    """Of --steps: numbers of 2 or more, None for inf."""
    parts = [part.strip() for part in value.split(",")]
    if not all(part == "inf" or (part.isascii() and part.isdigit() and int(part) >= 2) for part in parts):
        raise click.BadParameter(f"{value!r}: numbers of 2 or more, or inf, separated by commas")
    return [None if part == "inf" else int(part) for part in parts]


@command()
@click.argument("data", nargs=-1, required=True)
@click.option("--tile", type=COUNT, help="DATA are contact sheets of squares of this side.")
@click.option("--images", type=COUNT, help="Only so many, at random.")
@click.option(
    "--steps", default="1000,inf", show_default=True, callback=levels, help="Numbers of levels of the schedule, or inf."
)
@click.option("--samples", type=COUNT, default=2, show_default=True, help="Terms of each picture.")
@click.option("--model", default="cifar10", show_default=True)
@click.option("--device", default="auto", show_default=True)
@click.option("--context", is_flag=True, help="L_0 is that of the model's code: pixels tell of each other.")
@click.option("--bf16", is_flag=True, help="The network computes in bfloat16.")
@output_options
def main(data, tile, images, steps, samples, model, device, context, bf16, output, plot):
    """Measure the bound."""
    strict_fp32()
    pictures = some(list(chain.from_iterable(load(source, tile) for source in data)), images, seed=0)
    reverse = Reverse(load_model(model, pick_device(device)), autocast=bf16)
    names = ", ".join(Path(source).name for source in data)
    run = Run("bounds", reverse.model, data=names, samples=samples, bf16=bf16)
    finish_parts(run, ([row] for row in measure(reverse, pictures, steps, samples, context)), output, plot)


if __name__ == "__main__":
    main()
