"""``ddpm-codec bpd``: what a model says about data, in bits/dim, term by term."""

from __future__ import annotations

import json
import sys
import time

import click
import numpy as np
from tqdm import tqdm

from codec.diagrams import Axis, Diagram, Series, draw, kind_of
from codec.errors import CodecError
from codec.images.pictures import is_grey

from .batches import skip_bad_option
from .console import (
    check_outputs,
    check_sources,
    common,
    counted,
    device_option,
    force_option,
    make_folder,
    model_option,
    options,
    workers_on,
    write_output,
)
from .types import File, Steps

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
    from codec.api import pick_device
    from ddpm.diffusion.bound import Bound

    workers = workers_on(pick_device(device))
    quiet = quiet or workers.rank > 0
    start = time.monotonic()
    reverse = reverse_process(name, variance, clip, bf16, workers.device)
    pictures = read_pictures(data, tile, images, seed, skip_bad)
    groups = grouped(pictures, workers, by_grey=steps == "codec")
    if ode:
        figures = ode_figures(reverse.model, groups, workers, dequantize, trace, tolerance, seed, quiet)
        if workers.rank == 0:
            report(figures, as_json)
        return
    try:
        parts = measured(reverse, groups, steps, None if terms else samples, seed, quiet)
    except ValueError as e:
        raise CodecError(str(e)) from None
    parts = [b for part in workers.gather(parts) for b in part]
    counts = sorted({b.steps for b in parts}, key=lambda n: n or 0)
    found = Bound.merge(parts)
    if terms and found.terms is None:
        raise CodecError("pictures of several sizes have other steps of the code each; --terms takes those of one size")
    if workers.rank == 0:
        figures = {
            "model": reverse.model.name,
            "variance": reverse.variance,
            "clip": reverse.clip,
            "bf16": bf16,
            "seed": seed,
        }
        figures["seconds"] = round(time.monotonic() - start, 1)
        diagrams = [diagram_of(found)] if terms else []
        figures["diagrams"] = [d.to_json() for d in diagrams]
        if len(counts) > 1:  # steps of the code: as many as a size has
            figures["steps"] = [counts[0], counts[-1]]
        report(found.to_json() | figures, as_json)
        if plot:
            make_folder(plot)
            write_output(plot, draw(diagrams, kind))
            if not quiet:
                print(plot, file=sys.stderr if as_json else sys.stdout)


def reverse_process(name: str, variance: str | None, clip: bool | None, bf16: bool, device: str):
    """The reverse process of a model, by default as it was trained for."""
    from ddpm.diffusion.reverse import Reverse
    from ddpm.models.load import load_model
    from ddpm.models.model import strict_fp32

    strict_fp32()
    try:
        return Reverse(load_model(name, device), variance, clip, bf16)
    except ValueError as e:
        raise CodecError(str(e)) from None


def read_pictures(data, tile, images, seed, skip_bad=False) -> list[np.ndarray]:
    from ddpm.images.data import load_images

    pictures = load_images(data, tile, skip_bad=skip_bad)
    if images and images < len(pictures):
        chosen = np.random.default_rng(seed).permutation(len(pictures))[:images]
        pictures = [pictures[i] for i in np.sort(chosen)]
    return pictures


def grouped(pictures, workers, by_grey: bool) -> list:
    """This process's share: (numbers, pictures (B, 3, H, W) uint8, grey) of one size, as large as batches should be."""
    import torch

    groups: dict[tuple, list[int]] = {}
    for i in workers.share(range(len(pictures))):
        grey = by_grey and is_grey(pictures[i])
        groups.setdefault((*pictures[i].shape[:2], grey), []).append(i)
    out = []
    for (height, width, grey), numbers in groups.items():
        size = max(1, BATCH_PIXELS // (height * width))
        for k in range(0, len(numbers), size):
            part = numbers[k : k + size]
            out.append((part, torch.from_numpy(np.stack([pictures[i] for i in part])).permute(0, 3, 1, 2), grey))
    return out


def measured(reverse, groups, steps, samples, seed, quiet) -> list:
    """The bound of each group."""
    from ddpm.diffusion.bound import bound, own_steps, terms_for

    T = own_steps(reverse.model) if steps is None else None if steps == "inf" else steps
    if steps == "codec":
        return coded(reverse.model, groups, seed, quiet)
    if T is None and samples is None:
        raise CodecError("the limit T = infinity has no terms to list; give --steps T, a number of levels")
    terms = terms_for(reverse, T)
    if T is not None and samples is not None and len(terms.steps) <= samples:
        samples = None
    numbers, batches = [n for n, *_ in groups], [x for _, x, _ in groups]
    return [bound(terms, batches, samples=samples, seed=seed, numbers=numbers, quiet=quiet)] if groups else []


def coded(model, groups, seed, quiet) -> list:
    """What the steps of the code cost an ideal channel, of each group."""
    from codec.api import Codec
    from codec.terms import CodeTerms
    from ddpm.diffusion.bound import bound

    codec = Codec(model)
    plans = [codec.plan(*x.shape[2:], grey) for _, x, grey in groups]
    total = sum((plan.steps + 1) * len(x) for plan, (_, x, _) in zip(plans, groups))
    with tqdm(total=total, disable=True if quiet else None, desc="bound") as bar:
        terms = [CodeTerms(codec.setting(tuple(x.shape[2:]), grey)) for _, x, grey in groups]
        return [
            bound(of, [x], seed=seed, numbers=[numbers], progress=bar.update)
            for of, (numbers, x, _) in zip(terms, groups)
        ]


def ode_figures(model, groups, workers, samples, trace, tolerance, seed, quiet) -> dict:
    from ddpm.diffusion.ode import ode_likelihood

    start = time.monotonic()
    numbers, batches = [n for n, *_ in groups], [x for _, x, _ in groups]
    found = ode_likelihood(
        model,
        batches,
        samples=samples,
        trace=trace,
        rtol=tolerance,
        atol=tolerance,
        seed=seed,
        indices=numbers,
        quiet=quiet,
    )
    every = np.concatenate(workers.gather(found.per_image))
    return {
        "total": float(every.mean()),
        "stderr": float(every.std(ddof=1) / len(every) ** 0.5) if len(every) > 1 else None,
        "images": len(every),
        "trace": trace,
        "dequantize": samples,
        "tolerance": tolerance,
        "evaluations": sum(workers.gather(found.evaluations)),
        "model": model.name,
        "seed": seed,
        "seconds": round(time.monotonic() - start, 1),
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


def diagram_of(found) -> Diagram:
    """The terms, and what has been sent before each of them, over t."""
    values = [t["bits_per_dim"] for t in found.named_terms()]
    t = list(range(len(values)))[::-1]
    sums = np.cumsum(values).tolist()
    title = f"{found.total:.3f} bits/dim: {found.rate:.3f} rate, {found.distortion:.3f} distortion"
    series = [Series("L_{t-1}, one term", t[1:-1], values[1:-1]), Series("sum so far: the rate", t[:-1], sums[:-1])]
    return Diagram(title, Axis("t", range=(t[0], 0)), Axis("bits/dim", "log"), series)
