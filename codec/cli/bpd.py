"""``ddpm-codec bpd``: what a model says about data, in bits/dim, term by term."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import click

from codec.device import pick_device, workers_on
from codec.diagrams import Diagram, draw, kind_of, of_terms
from codec.errors import CodecError, as_mistakes

from .files import check_outputs, check_sources, read_reverse, write_output
from .options import common, device_option, force_option, model_option, options, skip_bad_option
from .report import counted
from .types import File, Steps

if TYPE_CHECKING:
    from ddpm.diffusion.bound import Bound
    from ddpm.diffusion.reverse import Reverse
    from ddpm.images.batches import Batch
    from ddpm.models.model import DDPM
    from ddpm.training.distributed import Workers

BATCH_PIXELS = 1 << 16


@click.command(short_help="Say what pictures cost under a model, in bits/dim.")
@click.argument("data", nargs=-1, required=True, type=File())
@model_option
@click.option("--tile", type=click.IntRange(1), help="DATA are contact sheets of squares of this side.")
@click.option("--images", type=click.IntRange(1), help="Only so many pictures, drawn at random.")
@click.option(
    "--steps", type=Steps("inf", "codec"), help="T, inf, or codec (the steps of the code). Default: the model's own."
)
@click.option("--samples", type=click.IntRange(1), default=4, show_default=True, help="Terms drawn for each picture.")
@click.option("--terms", is_flag=True, help="Compute all terms instead, and list them.")
@click.option("--variance", type=click.Choice(["learned", "beta", "beta-tilde"]), help="Of p; else the model's own.")
@click.option("--clip/--no-clip", default=None, help="Cut x_hat to the range of pictures; else the model's own way.")
@click.option("--ode", is_flag=True, help="The likelihood of the probability-flow ODE instead of the bound.")
@click.option(
    "--trace", type=click.Choice(["hutchinson", "exact"]), default="hutchinson", show_default=True, help="Of --ode."
)
@click.option("--dequantize", type=click.IntRange(1), default=1, show_default=True, help="Samples of --ode.")
@click.option("--tolerance", type=click.FloatRange(0, min_open=True), default=1e-5, show_default=True, help="Of --ode.")
@click.option("--bf16", is_flag=True, help="The network computes in bfloat16: faster, less exact.")
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True, help="Of what is drawn.")
@click.option("--plot", type=File(), help="PNG, SVG or WebP file for a picture of the terms.")
@options(skip_bad_option, device_option, force_option, *common)
def bpd(
    data,
    name,
    tile,
    images,
    steps,
    samples,
    terms,
    variance,
    clip,
    ode,
    trace,
    dequantize,
    tolerance,
    bf16,
    seed,
    plot,
    skip_bad,
    device,
    force,
    quiet,
    as_json,
):
    """Bits/dim of DATA under a model: pictures, folders, CIFAR-10 files or (with --tile) contact sheets.

    The variational bound: rate = L_T + sum of L_{t-1}, distortion = L_0 (Ho et al. 2020), mean over pictures. Without
    --terms it is a low-discrepancy Monte Carlo estimate over t. Under torchrun the pictures are shared out.
    """
    if plot and not terms:
        raise CodecError("--plot shows the terms; give --terms too")
    kind = kind_of(plot) if plot else None
    check_outputs([plot] if plot else [], data, force)
    if ode and (terms or steps or variance or bf16):
        raise CodecError("--ode knows no steps, terms or variances, and no bf16")
    check_sources(data)
    from ddpm.images.batches import batches, some
    from ddpm.images.data import load_images
    from ddpm.models.model import strict_fp32

    workers = workers_on(pick_device(device))
    quiet, start = quiet or workers.rank > 0, time.monotonic()
    strict_fp32()
    reverse = read_reverse(name, workers.device, variance, clip, bf16)
    pictures = some(load_images(data, tile, skip_bad=skip_bad), images, seed)
    own = batches(pictures, BATCH_PIXELS, workers.share(range(len(pictures))), by_grey=steps == "codec")
    if ode:
        asked = {"samples": dequantize, "trace": trace, "rtol": tolerance, "atol": tolerance, "seed": seed}
        figures = flow_figures(reverse.model, own, workers, {**asked, "quiet": quiet})
    else:
        parts = measured(reverse, own, steps, samples=None if terms else samples, seed=seed, quiet=quiet)
        figures = bound_figures(reverse, [b for part in workers.gather(parts) for b in part], terms)
    figures |= {"model": reverse.model.name, "seed": seed, "seconds": round(time.monotonic() - start, 1)}
    if workers.rank:
        return
    report(figures, as_json)
    if kind:
        write_output(plot, draw([Diagram.from_json(d) for d in figures["diagrams"]], kind))
        if not quiet:
            print(plot, file=sys.stderr if as_json else sys.stdout)


def measured(
    reverse: Reverse,
    batches: Sequence[Batch],
    steps: int | Literal["inf", "codec"] | None,
    *,
    samples: int | None,
    seed: int,
    quiet: bool,
) -> list[Bound]:
    """The bound of each part of the batches: with ``codec`` of each batch, which has steps of its own."""
    from codec.terms import bounds_of_code
    from ddpm.diffusion.bound import bound, own_steps, terms_for

    with as_mistakes():
        if steps == "codec":
            return bounds_of_code(reverse.model, batches, seed=seed, quiet=quiet)
        T = own_steps(reverse.model) if steps is None else None if steps == "inf" else steps
        if T is None and samples is None:
            raise CodecError("the limit T = infinity has no terms to list; give --steps T, a number of levels")
        terms = terms_for(reverse, T)
        if T is not None and samples is not None and len(terms.steps) <= samples:
            samples = None
        how = {"samples": samples, "seed": seed, "numbers": [b.numbers for b in batches], "quiet": quiet}
        return [bound(terms, [b.x for b in batches], **how)] if batches else []


def bound_figures(reverse: Reverse, parts: Sequence[Bound], terms: bool) -> dict:
    """What is told of the bound of all pictures, with a diagram of the terms."""
    from ddpm.diffusion.bound import Bound

    counts, found = sorted({b.steps for b in parts}, key=lambda n: n or 0), Bound.merge(parts)
    if terms and found.terms is None:
        raise CodecError("pictures of several sizes have other steps of the code each; --terms takes those of one size")
    figures = found.to_json()
    if len(counts) > 1:  # steps of the code: as many as a size has
        figures["steps"] = [counts[0], counts[-1]]
    figures |= {"variance": reverse.variance, "clip": reverse.clip, "bf16": reverse.autocast}
    return figures | {"diagrams": [of_terms(found).to_json()] if terms else []}


def flow_figures(model: DDPM, batches: Sequence[Batch], workers: Workers, asked: dict) -> dict:
    """The likelihood of the probability-flow ODE of the pictures of all processes. asked: of ``ode_likelihood``."""
    from ddpm.diffusion.ode import OdeLikelihood, ode_likelihood

    numbers = [b.numbers for b in batches]
    with as_mistakes():
        parts = [ode_likelihood(model, [b.x for b in batches], indices=numbers, **asked)] if batches else []
    found = OdeLikelihood.merge([one for part in workers.gather(parts) for one in part])
    return {
        "total": found.bits_per_dim,
        "stderr": found.stderr,
        "images": found.images,
        "trace": found.trace,
        "dequantize": found.samples,
        "tolerance": found.tolerance[0],
        "evaluations": found.evaluations,
    }


def report(figures: dict, as_json: bool) -> None:
    """Print a measurement: JSON, or words."""
    if as_json:
        print(json.dumps(figures, indent=1))
        return
    error = "" if figures["stderr"] is None else f" +- {figures['stderr']:.4f}"
    print(f"{figures['total']:.4f}{error} bits/dim, {counted(figures['images'], 'picture')}, model {figures['model']}")
    if "rate" not in figures:
        print(f"probability-flow ODE, {figures['trace']} trace, {counted(figures['evaluations'], 'evaluation')}")
        return
    drawn, T = figures["samples"], figures["steps"]
    how = "all terms" if drawn is None else f"Monte Carlo, {counted(drawn, 'term')} of each picture"
    levels = " to ".join(map(str, T)) if isinstance(T, list) else T
    print(f"rate {figures['rate']:.4f} (of it prior {figures['prior']:.6f}), distortion {figures['distortion']:.4f}")
    print(f"T = {levels}, {how}; variance {figures['variance']}, {'' if figures['clip'] else 'not '}clipped")
    for term in figures["terms"] or ():
        print(f"{term['term']:>7} {term['bits_per_dim']:.6g}")
