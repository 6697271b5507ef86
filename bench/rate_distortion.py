"""Rate and distortion of progressive coding (Ho et al. 2020, figure 5 and table 4), with real files in it.

    python -m bench.rate_distortion DATA [--tile 32] [--images 500] [--model cifar10] [--steps 4,7,11,16,22]
        [--ideal 1000] [--recon mean,flow,sample] [--device auto] -o rd.json -p rd.png
    python -m bench.rate_distortion DATA [--tile 32] --ours rd.json -o new.json     # all but the peers as stored

On pictures of one size, the first of DATA or those after --skip:
files   ours, all pictures at the same number of steps, so that they end at the same noise level; rows "mean, few" are
        of the same pictures as the ideal chain at T levels
ideal   what the chain would take over an ideal channel, at T levels and at the codec's own steps
peers   JPEG, JPEG 2000, WebP, AVIF and JPEG XL, at the settings that are best (peers.py), over a ladder of qualities
Distortion is the mean squared error over all values of all pictures, rates are bits per value; grey pictures are
counted as of three channels, too. A model without coding tables makes no files. Points that others published, in
published/cifar10.json, are shown beside pictures of 32x32. Rows are means over so many ``images``: results for other
pictures of the set can be merged with ``python -m bench.results``.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import click
import numpy as np
from tqdm import tqdm

from bench.baselines.peers import Peer, contenders, overhead, versions, wavelet
from bench.harness.command import COUNT, FROM_ZERO, command, listed
from bench.harness.ideal import progressive
from bench.harness.pick import load
from bench.metrics.judge import decoded, mse
from bench.reporting.output import finish, finish_parts, output_options
from bench.reporting.rd_report import FEW, present  # noqa: F401  (``presented`` asks this module for it)
from bench.reporting.run import Run, last_name
from codec import Codec, CodecError, Target
from codec.device import pick_device
from codec.diagrams import read_result
from codec.terms import CodeTerms
from ddpm.diffusion.bound import Terms, terms_for
from ddpm.diffusion.reverse import Reverse
from ddpm.models.load import load_model
from ddpm.models.model import DDPM, strict_fp32

QUALITIES = (5, 15, 30, 45, 60, 75, 88, 95)
DIFFERENT = 0.01  # of a mean squared error, between what an encoder claims and what decoded files show


def files(
    codec: Codec,
    pictures: Sequence[np.ndarray],
    steps: int,
    recon: Sequence[str],
    *,
    few: int,
    batch: int,
    ideal: int = 0,
) -> Iterator[dict]:
    """Rows of files of pictures (H, W, 3) at so many steps: ``mean`` of all, the other ``recon`` of the first ``few``.

    These are decoded in any case: RuntimeError if their error is not what the encoder said. ``ideal``: one more of the
    first so many, FEW.
    """
    start, coded = time.monotonic(), []
    with tqdm(total=len(pictures), desc=f"{steps} steps", disable=None) as bar:
        for i in range(0, len(pictures), batch):
            coded += codec.encode(list(pictures[i : i + batch]), Target(steps=steps))
            bar.update(len(coded) - i)
    seconds, dims = (time.monotonic() - start) / len(pictures), pictures[0].size
    for name in dict.fromkeys(["mean", *recon, *[FEW] * (0 < ideal < len(coded))]):
        chosen = coded if name == "mean" else coded[: ideal if name == FEW else few]
        seen = [] if name == FEW else decoded_errors(codec, pictures, coded[:few], name, batch)
        if name == "mean":
            claimed = np.mean([f.mse for f in coded[:few]])
            if abs(np.mean(seen) - claimed) > DIFFERENT * claimed:
                raise RuntimeError(f"decoded files have MSE {np.mean(seen)}, the encoder said {claimed}")
        if name in ("mean", FEW):
            seen = [f.mse for f in chosen]
        yield {
            "kind": "files",
            "name": name,
            "setting": steps,
            "images": len(chosen),
            "bits_per_dim": float(np.mean([8 * len(f.data) for f in chosen])) / dims,
            "payload_bits_per_dim": float(np.mean([f.payload_bits for f in chosen])) / dims,
            "kl_bits_per_dim": float(np.mean([f.ideal_bits for f in chosen])) / dims,
            "mse": float(np.mean(seen)),
            "encode_s": seconds,
        }


def decoded_errors(codec: Codec, pictures, coded, recon: str, batch: int) -> list[float]:
    """The mean squared error of each decoded file, in squared grey levels."""
    arrays = []
    for i in range(0, len(coded), batch):
        part = [file.data for file in coded[i : i + batch]]
        arrays += [file.array for file in codec.decode(part, recon=recon)]
    return [mse(p, a if a.ndim == 3 else a[..., None]) for a, p in zip(arrays, pictures)]


def peers(pictures: Sequence[np.ndarray]) -> Iterator[dict]:
    """Rows of other codecs by PSNR; their payload is what a file has beyond that of a single pixel."""
    chosen = [p for p in contenders(speed=2) if p.best_for in (None, "psnr")]
    chosen += [Peer(name, "", encode) for name, encode in wavelet().items()]
    with tqdm(total=len(chosen) * len(QUALITIES), desc="peers", disable=None) as bar:
        for peer in chosen:
            for quality in QUALITIES:
                made = [peer.encode(p, quality) for p in pictures]
                rate = float(np.mean([8 * len(data) for data in made])) / pictures[0].size
                yield {
                    "kind": "peers",
                    "name": peer.codec,
                    "how": peer.how,
                    "setting": quality,
                    "images": len(made),
                    "bits_per_dim": rate,
                    "payload_bits_per_dim": rate - 8 * overhead(peer.encode, quality) / pictures[0].size,
                    "mse": float(np.mean([mse(p, decoded(data)) for p, data in zip(pictures, made)])),
                }
                bar.update()


def limit(terms: Terms, name: str, pictures: Sequence[np.ndarray], first: int, batch: int) -> Iterator[dict]:
    """One row: a chain over an ideal channel."""
    found = progressive(terms, pictures, first=first, batch=batch, name=f"ideal, {name}")
    yield {"kind": "ideal", "name": name, "setting": len(terms.steps) + 1, "images": len(pictures)} | found


def ours(
    model: DDPM,
    pictures: Sequence[np.ndarray],
    steps: Sequence[int],
    recon: Sequence[str],
    *,
    few: int,
    first: int,
    batch: int,
    ideal: int = 0,
) -> Iterator[dict]:
    """Rows of files at each of ``steps``, and of the codec's own steps over an ideal channel."""
    codec, size = Codec(model), pictures[0].shape[:2]
    for k in steps:
        yield from files(codec, pictures, k, recon, few=few, batch=batch, ideal=ideal)
    yield from limit(CodeTerms(codec.setting(size)), "own steps", pictures, first, batch)


RECON = ("mean", "flow", "sample")


@command()
@click.argument("data")
@click.option("--tile", type=COUNT, help="DATA are contact sheets of squares of this side.")
@click.option("--images", type=COUNT, help="So many pictures; by default all on a GPU, 500 on a CPU.")
@click.option("--skip", type=FROM_ZERO, default=0, help="Begin after so many pictures.")
@click.option("--ours", "stored", type=Path, help="A result of these pictures: all but other codecs stays as it is.")
@click.option("--model", default="cifar10", show_default=True)
@click.option("--steps", default="4,7,11,16,22", show_default=True, callback=listed(int, 1), help="Of the files.")
@click.option("--ideal", type=FROM_ZERO, default=1000, show_default=True, help="T of the ideal chain; 0: none.")
@click.option("--ideal-images", type=COUNT, help="Pictures for it; by default all on a GPU, 20 on a CPU.")
@click.option(
    "--recon",
    default=",".join(RECON),
    show_default=True,
    callback=listed(str, among=RECON),
    help="Of mean, flow, sample.",
)
@click.option("--recon-images", type=COUNT, help="Pictures to decode; by default 1000 on a GPU, 32 on a CPU.")
@click.option("--batch", type=COUNT, default=128, show_default=True)
@click.option("--device", default="auto", show_default=True)
@output_options
def main(
    data,
    tile,
    images,
    skip,
    stored,
    model,
    steps,
    ideal,
    ideal_images,
    recon,
    recon_images,
    batch,
    device,
    output,
    plot,
):
    """Measure rate and distortion of real files, of the ideal channel and of other codecs."""
    if ideal == 1:
        raise click.BadParameter("a chain has 2 levels or more", param_hint="--ideal")
    every = load(data, tile)
    if stored:
        return finish(again(stored, data, every), output, plot)
    strict_fp32()
    model = load_model(model, pick_device(device))
    fast = model.device.type == "cuda"
    every = every[skip:]
    pictures = every[: images or (len(every) if fast else 500)]
    if len({p.shape for p in pictures}) != 1:
        raise CodecError(f"{data}: no pictures, or not of one size")
    recon_images = recon_images or (1000 if fast else 32)
    few = pictures[: ideal_images or (len(pictures) if fast else 20)]
    counts = {"images": len(pictures), "skip": skip, "ideal_images": len(few), "recon_images": recon_images}
    asked = {"data": data, "size": list(pictures[0].shape[:2]), "steps": ",".join(map(str, steps)), "ideal": ideal}
    run = Run("rate_distortion", model, **asked, recon=",".join(recon), **counts)
    how = {"few": recon_images, "first": skip, "batch": batch, "ideal": len(few) if ideal else 0}
    parts = [ours(model, pictures, steps, recon, **how)] if model.coding else []
    parts += [limit(terms_for(Reverse(model), ideal), "levels", few, skip, batch)] if ideal else []
    return finish_parts(run, ([row] for row in itertools.chain(*parts, peers(pictures))), output, plot)


def again(stored: Path, data: str, every: Sequence[np.ndarray]) -> dict:
    """A stored result with other codecs measured anew; CodecError if it is of other pictures."""
    result, run = read_result(stored), Run("rate_distortion", data=data)
    asked = result.get("settings", {})
    pictures = every[asked.get("skip", 0) :][: asked.get("images", 0)]
    fit = result.get("bench") == "rate_distortion" and len(pictures) == asked.get("images")
    if not fit or {p.shape[:2] for p in pictures} != {tuple(asked["size"])} or asked["data"] != last_name(data):
        raise CodecError(f"{stored} is not a result of bench.rate_distortion for these pictures")
    rows = [row for row in result["rows"] if row["kind"] != "peers"]
    return run.beside(result, rows + list(peers(pictures)), **versions())


if __name__ == "__main__":
    main()
