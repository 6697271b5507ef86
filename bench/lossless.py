"""Lossless single files beside the model's bound and classical codecs: whole files, bits per value of the pictures.

    python -m bench.lossless DATA [--tile 32] [--crop 256] [--images 1000] [--model cifar10] -o lossless.json

Rows as in lengths.py, where archives join them. What is measured is written as it goes; results for other pictures of
the set (``--skip``) can be merged with ``python -m bench.results``. The bound is that of the codec's own steps (ideal
channel) and of p(x | z_0), on the same pictures. Of grey pictures one channel is coded; here all count as they are in
the data.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator

import click
import numpy as np
import torch
from tqdm import tqdm

from bench.baselines.peers import lossless_rows
from bench.harness.command import COUNT, FROM_ZERO, command
from bench.harness.pick import draw
from bench.reporting.lengths import SINGLE, published_option
from bench.reporting.output import finish, output_options, save
from bench.reporting.run import Run
from codec import Codec, Target
from codec.lossless.entropy import HALF, OCTAVE
from codec.lossless.likelihood import distortion
from codec.lossless.pixels import Pixels, planes
from codec.lossy import progressive
from codec.terms import CodeTerms
from ddpm.diffusion.bound import bound
from ddpm.diffusion.likelihood import LN2
from ddpm.images.batches import parts, stacked

BATCH_PIXELS = 1 << 16


def portability(codec: Codec, files: list[bytes], pictures: list[np.ndarray]) -> float:
    """What agreement between machines costs, as a share of files of one size.

    It is the lossless part beyond -log2 p(x | z_0): shifts, the rounding of z_0, of means and deviations, and tables of
    probabilities.
    """
    opened = [codec.open(data) for data in files]
    h, plan = opened[0].info.header, opened[0].allotment.plan
    setting, size = codec.setting_of(h), (h.height, h.width)
    chain = progressive.decode(setting, [o.bits for o in opened], [o.allotment for o in opened], plan.steps)
    pixels, spent = Pixels(setting), 0.0
    for z, file, picture in zip(chain.z, opened, pictures):
        begin, end = file.parts["pixels"]
        shape = (1, 1 if h.grey else 3, *size)
        mean, octaves = (torch.from_numpy(v).view(shape) for v in pixels.beliefs(pixels.coded(z)))
        x = torch.from_numpy(planes(picture) / HALF - 1).view(shape)
        log_std = octaves * (math.log(2) / OCTAVE) - math.log(HALF)
        ideal = distortion(pixels.context, x, mean / HALF - 1, log_std) * x.numel() / LN2
        spent += 8 * (end - begin) - float(ideal)
    return spent / sum(8 * len(data) for data in files)


def measure(codec: Codec, pictures: list[np.ndarray], check: bool) -> Iterator[dict]:
    """A row for the pictures so far: means of bits per value; ``looks``: evaluations at the largest."""
    rows, seconds, price, evaluations = [], np.zeros(2), None, 0
    with tqdm(total=len(pictures), disable=None) as bar:
        for grey, members in parts(pictures, BATCH_PIXELS):
            part = [pictures[i] for i in members]
            shown = [p[..., 0] if grey else p for p in part]
            start = time.monotonic()
            files = codec.encode(shown, Target(lossless=True))
            seconds[0] += time.monotonic() - start
            if check:
                start = time.monotonic()
                back = codec.decode([f.data for f in files])
                seconds[1] += time.monotonic() - start
                if not all(np.array_equal(a, b.array) for a, b in zip(shown, back)):
                    raise RuntimeError("a picture did not come back")
            if price is None:  # the first batch says enough
                price = portability(codec, [f.data for f in files], shown)
            x = stacked(part)
            size = tuple(x.shape[2:])
            plan = codec.plan(*size, grey)
            evaluations = max(evaluations, plan.steps)
            ideal = bound(CodeTerms(codec.setting(size, grey)), [x], quiet=True).per_image
            rows += [
                {
                    "bits_per_dim": 8 * len(f.data) / p.size,
                    "payload": f.payload_bits / p.size,
                    "bound": b * f.dims / p.size,
                }
                for p, f, b in zip(part, files, ideal)
            ]
            bar.update(len(part))
            mean = {name: float(np.mean([r[name] for r in rows])) for name in rows[0]}
            n, row = len(rows), {"code": SINGLE, "steps": "codec", "images": len(rows), "looks": evaluations}
            speed = {"encode_s": seconds[0] / n, "decode_s": seconds[1] / n if check else None}
            yield row | mean | {"portability": price} | speed


@command()
@click.argument("data")
@click.option("--tile", type=COUNT)
@click.option("--images", type=COUNT, default=1000, show_default=True)
@click.option("--skip", type=FROM_ZERO, default=0, help="Begin after so many pictures.")
@click.option("--crop", type=COUNT, help="Only the middle square of this side.")
@click.option("--model", default="cifar10", show_default=True)
@click.option("--check/--no-check", default=True, show_default=True, help="Decode all files.")
@click.option("--device", default="auto", show_default=True)
@published_option
@output_options
def main(data, tile, images, skip, crop, model, check, device, published, output, plot):
    """Measure lossless files."""
    pictures, codec = draw(data, tile, images, crop, skip), Codec(model, device)
    run = Run("lengths", codec.model, data=data, tile=tile, images=images, crop=crop, published=published)
    for row in measure(codec, pictures, check):
        save(run.result([row | {"skip": skip}]), output)
    finish(run.result([r | {"skip": skip} for r in (row, *lossless_rows(pictures))]), output, plot)


if __name__ == "__main__":
    main()
