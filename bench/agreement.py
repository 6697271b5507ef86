"""Does the code agree with theory? The codec's steps over an ideal channel beside the bound's terms for the same steps.

    python -m bench.agreement DATA [--tile 32] [--images 200] [--model cifar10] -o agreement.json

The first walks: every z_s is drawn from q given the z_t before it, as over an ideal channel. The second
(``ddpm-codec bpd --steps codec``) draws each z_t from q(z_t | x) by itself. In expectation they are equal.
"""

from __future__ import annotations

import json
from pathlib import Path

import click
import numpy as np
import torch
from tqdm import tqdm

from codec import Codec, Target
from codec.likelihood import Coded
from ddpm.bound import Bound, bound

from .pick import alike, draw


def measure(codec: Codec, pictures: list[np.ndarray], batch: int) -> dict:
    """Mean bits per coded dimension both ways over pictures of one size, and the standard error of the difference."""
    walked, drawn = [], []
    for grey, indices in alike(pictures):
        members = [pictures[i][..., 0] if grey else pictures[i] for i in indices]
        for k in tqdm(range(0, len(members), batch), desc="grey" if grey else "colour", disable=None):
            part = members[k : k + batch]
            size = part[0].shape[:2]
            plan = codec.plan(*size, grey)
            files = codec.encode(part, Target(steps=plan.steps), channel="ideal")
            walked += [f.ideal_bits / f.dims for f in files]
            colours = np.stack([np.repeat(p[..., None], 3, 2) if grey else p for p in part])
            x = torch.from_numpy(colours).permute(0, 3, 1, 2)
            drawn.append(bound(Coded(codec.model, plan, size, grey), [x], seed=k, quiet=True))
    found, walked = Bound.merge(drawn), np.array(walked)
    gap = walked - found.parts[:, :2].sum(1)
    return {
        "model": codec.model.name,
        "images": len(walked),
        "walked_bits_per_dim": float(walked.mean()),
        "bound_bits_per_dim": found.rate,
        "difference": float(gap.mean() / found.rate),
        "stderr": float(gap.std(ddof=1) / len(gap) ** 0.5 / found.rate),
    }


@click.command()
@click.argument("data")
@click.option("--tile", type=int)
@click.option("--images", default=200, show_default=True)
@click.option("--batch", default=50, show_default=True)
@click.option("--model", default="cifar10", show_default=True)
@click.option("--device", default="auto", show_default=True)
@click.option("-o", "--output", type=Path)
def main(data, tile, images, batch, model, device, output):
    """Measure the agreement on pictures of one size, drawn at random."""
    result = measure(Codec(model, device), draw(data, tile, images), batch)
    if output:
        output.write_text(json.dumps(result, indent=1))
    print(f"{result['model']}, {result['images']} pictures, bits/dim of all steps")
    print(f"ideal channel {result['walked_bits_per_dim']:.4f}, bound {result['bound_bits_per_dim']:.4f}")
    print(f"difference {result['difference']:+.2%} +- {result['stderr']:.2%}")


if __name__ == "__main__":
    main()
