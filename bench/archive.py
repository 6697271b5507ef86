"""Archives beside the model's bound on the same pictures and levels, and beside PNG and WebP; bits per value.

    python -m bench.archive DATA [--tile 32] [--images 256] [--steps 50] [--model cifar10] -o archive.json

``net`` is what the pictures coded by bits-back add to the stack, ``bound`` the same pictures' bound, ``archive`` the
whole file over all pictures, with its table and the first pictures that are files of their own. All colours count, of
grey pictures too.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

import click
import numpy as np
import torch

from codec.api import pick_device
from codec.archive import MAX_PIXELS, STEPS, batches, contents, create, extract
from ddpm.bound import bound, chain_for
from ddpm.model import load_model
from ddpm.reverse import Reverse

from .peers import lossless
from .pick import draw


def bound_of(model, pictures, where, steps, draws) -> float:
    """Bits/dim of patches, (size, (n, 3) of picture, top, left) each: all terms, mean over values and draws of z."""
    bits = values = 0
    chain = chain_for(Reverse(model), steps)
    for (height, width), patches in where:
        x = np.stack([pictures[i][top : top + height, left : left + width] for i, top, left in patches])
        x = torch.from_numpy(x.transpose(0, 3, 1, 2))
        for seed in range(draws):
            bits += bound(chain, [x], seed=seed, quiet=True).total * x.numel()
            values += x.numel()
    return bits / values


def measure(model, pictures: list[np.ndarray], steps: int, draws: int, check: bool) -> dict:
    """Means over the values of all pictures."""
    named = [(f"{i:06d}.png", picture) for i, picture in enumerate(pictures)]
    start = time.monotonic()
    data = create(named, model, steps, max_pixels=max(MAX_PIXELS, *(p.shape[0] * p.shape[1] for p in pictures)))
    seconds = [time.monotonic() - start, None]
    if check:
        start = time.monotonic()
        back = dict(extract(data, model, max_pixels=1 << 32))
        seconds[1] = time.monotonic() - start
        if not all(np.array_equal(picture, back[name]) for name, picture in named):
            raise RuntimeError("a picture did not come back")
    c = contents(data)
    together = [(size, where) for entry, size, where in batches(c.sizes, c.plan) if entry > 0]
    values = sum(p.size for p in pictures)
    coded = sum(3 * size[0] * size[1] * len(where) for size, where in together)
    files = -sum(n for n in c.plan if n < 0)
    result = {"model": model.name, "steps": steps, "images": len(pictures), "stored": c.stored}
    if coded:
        result["net"] = (32 * c.count - 8 * files) / coded
        result["bound"] = bound_of(model, pictures, together, steps, draws)
        result["over"] = result["net"] - result["bound"]
    if c.stored:
        result["stored_bits"] = 8 * files / (values - coded)
    result["archive"] = 8 * len(data) / values
    result["table"] = 8 * c.start / values
    peers = [lossless(p) for p in pictures]
    result |= {name: 8 * sum(p[name] for p in peers) / values for name in peers[0]}
    result |= {"create_s": seconds[0] / len(pictures), "extract_s": check and seconds[1] / len(pictures)}
    return result | {"made_on": c.made_on, "threads": c.threads}


@click.command()
@click.argument("data")
@click.option("--tile", type=int)
@click.option("--images", default=256, show_default=True)
@click.option("--model", default="cifar10", show_default=True)
@click.option("--steps", default=STEPS, show_default=True)
@click.option("--draws", default=4, show_default=True, help="Of the latents, for the bound.")
@click.option("--check/--no-check", default=True, show_default=True, help="Extract and compare all pictures.")
@click.option("--device", default="auto", show_default=True)
@click.option("-o", "--output", type=Path)
def main(data, tile, images, model, steps, draws, check, device, output):
    """Measure archives."""
    pictures = [np.ascontiguousarray(p) for p in draw(data, tile, images)]
    result = measure(load_model(model, pick_device(device)), pictures, steps, draws, check)
    if output:
        output.write_text(json.dumps(result, indent=1))
    print("\n".join(f"{k:12} {v:.4f}" if isinstance(v, float) else f"{k:12} {v}" for k, v in result.items()))


if __name__ == "__main__":
    main()
