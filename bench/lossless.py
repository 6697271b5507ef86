"""Lossless single files beside the model's bound and classical codecs: whole files, bits per value of the pictures.

    python -m bench.lossless DATA [--tile 32] [--crop 256] [--images 1000] [--model cifar10] -o lossless.json

Rows as in lengths.py, where archives join them. What is measured is written as it goes; results for other pictures of
the set (``--skip``) can be merged with ``python -m bench.results``. The bound is that of the codec's own steps (ideal
channel) and of p(x | z_0), on the same pictures; where the chain hands over to a code that learns (adaptive.py), of the
steps till there and that code's length, given what an ideal channel would have left. Of grey pictures one channel is
coded; here all count as they are in the data.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import click
import numpy as np
from tqdm import tqdm

from bench.baselines.peers import lossless_rows
from bench.harness.command import COUNT, FROM_ZERO, command
from bench.harness.pick import draw
from bench.reporting.lengths import SINGLE, published_option
from bench.reporting.output import finish, output_options, save
from bench.reporting.run import Run
from codec import Codec, Target
from codec.lossless.adaptive import handover
from codec.lossless.likelihood import pixel_nats
from codec.lossless.pixels import planes, sight_of
from codec.lossy import progressive
from codec.terms import CodeTerms
from ddpm.diffusion.bound import bound
from ddpm.diffusion.likelihood import LN2
from ddpm.images.batches import parts, stacked

BATCH_PIXELS = 1 << 16


def tables_cost(codec: Codec, files: list[bytes], pictures: list[np.ndarray]) -> float:
    """What the coder of pixels costs, as a share of files of one size: bytes beyond -log2 p(x | z_0), as believed."""
    opened = [codec.open(data) for data in files]
    header, plan = opened[0].info.header, opened[0].allotment.plan
    setting = codec.setting_of(header)
    chain = progressive.decode(setting, [o.bits for o in opened], [o.allotment for o in opened], plan.steps)
    spent = 0.0
    for z, file, picture in zip(chain.seen(), opened, pictures):
        begin, end = file.parts["pixels"]
        nats = sum(pixel_nats(*group).sum() for group in sight_of(setting, z).predictions(planes(picture)))
        spent += 8 * (end - begin) - float(nats) / LN2
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
            x = stacked(part)
            setting = codec.setting(tuple(x.shape[2:]), grey)
            ends = handover(setting)
            if price is None and ends is None:  # the first batch says enough
                price = tables_cost(codec, [f.data for f in files], shown)
            evaluations = max(evaluations, ends or setting.plan.steps)
            ideal = bound(CodeTerms(setting), [x], quiet=True).per_image
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
            yield row | mean | {"tables": price} | speed


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
