"""FID and LPIPS of decoded pictures, for people who have the weights of their networks: optional, off without them.

    pip install 'ddpm-codec[perceptual]'
    python -m bench.perceptual ORIGINALS DECODED [DECODED ...] [--images 1000] [--tile 32] -o perceptual.json

Folders (or contact sheets) of pictures of one size, in the same order. FID (Heusel et al. 2017) compares the two sets,
LPIPS (Zhang et al. 2018, AlexNet) each picture with its original, both as torchmetrics computes them; it fetches the
weights at the first use. --inception: a file of InceptionV3 weights at hand instead. What cannot be had is left out,
with a line that says why.
"""

from __future__ import annotations

from pathlib import Path

import click
import torch
from tqdm import tqdm

from bench.harness.command import COUNT, command
from bench.harness.pick import load
from bench.reporting.output import finish, output_options
from bench.reporting.run import Run
from bench.reporting.table import Table
from codec.device import pick_device
from codec.diagrams import Diagram
from codec.errors import CodecError, as_mistakes

BATCH = 32


def batches(pictures):
    """(B, 3, H, W) uint8, in order; ValueError unless all have one size."""
    if len({p.shape for p in pictures}) != 1:
        raise ValueError("the pictures of a set have one size")
    for i in range(0, len(pictures), BATCH):
        yield torch.stack([torch.from_numpy(p) for p in pictures[i : i + BATCH]]).permute(0, 3, 1, 2)


def fid(originals, decoded, metric) -> float:
    """Fréchet distance between the features of two sets; ``metric`` a torchmetrics FrechetInceptionDistance."""
    for real, pictures in ((True, originals), (False, decoded)):
        for x in tqdm(batches(pictures), "features", -(-len(pictures) // BATCH), disable=None):
            metric.update(x.to(metric.device), real=real)
    return float(metric.compute())


def lpips(originals, decoded, metric) -> float:
    """Mean distance between each picture and its original; ``metric`` takes values in [0, 1]."""
    for x, y in tqdm(zip(batches(originals), batches(decoded)), "LPIPS", -(-len(decoded) // BATCH), disable=None):
        metric.update(*(v.to(metric.device).float() / 255 for v in (y, x)))
    return float(metric.compute())


def metrics(inception: Path | None, device: str) -> dict:
    """name -> (function, metric), of those whose packages and weights are here; a line about each other one."""
    found = {}

    def inception_distance():
        from torchmetrics.image.fid import FrechetInceptionDistance

        return FrechetInceptionDistance(feature_extractor_weights_path=inception and str(inception))

    def alexnet_distance():
        from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

        return LearnedPerceptualImagePatchSimilarity(net_type="alex", normalize=True)

    for name, function, make in (("fid", fid, inception_distance), ("lpips", lpips, alexnet_distance)):
        try:
            found[name] = function, make().to(device)
        except (ImportError, OSError, RuntimeError) as e:  # no package, no file, no network
            click.echo(f"warning: no {name}: {str(e).splitlines()[0]}", err=True)
    return found


def measure(originals, decoded, found: dict) -> dict:
    """A row: what each metric says of a set."""
    if len(originals) != len(decoded):
        raise ValueError(f"{len(decoded)} pictures for {len(originals)} originals")
    row = {"images": len(decoded)}
    for name, (function, metric) in found.items():
        metric.reset()
        row[name] = function(originals, decoded, metric)
    return row


def present(result: dict) -> tuple[list[Diagram], list[Table]]:
    """One table."""
    rows = result["rows"]
    known = [name for name in ("fid", "lpips") if any(name in r for r in rows)]
    cells = [[r["set"], str(r["images"]), *(f"{r[k]:.4g}" if k in r else "" for k in known)] for r in rows]
    return [], [Table("perceptual", ["", "pictures", *(name.upper() for name in known)], cells)]


@command()
@click.argument("originals")
@click.argument("decoded", nargs=-1, required=True)
@click.option("--tile", type=COUNT, help="They are contact sheets of squares of this side.")
@click.option("--images", type=COUNT, help="Only the first so many.")
@click.option("--inception", type=click.Path(exists=True, path_type=Path), help="Weights of InceptionV3 for FID.")
@click.option("--device", default="auto", show_default=True)
@output_options
def main(originals, decoded, tile, images, inception, device, output, plot):
    """Compare sets of decoded pictures with their originals."""
    first, *sets = (load(name, tile)[:images] for name in (originals, *decoded))
    run, found = Run("perceptual", data=originals, images=images), metrics(inception, pick_device(device))
    if not found:
        raise CodecError("no metric can be had; see pip install 'ddpm-codec[perceptual]'")
    with as_mistakes():
        rows = [{"set": name} | measure(first, pictures, found) for name, pictures in zip(decoded, sets)]
    finish(run.result(rows), output, plot)


if __name__ == "__main__":
    main()
