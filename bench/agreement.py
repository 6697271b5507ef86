"""Does the code agree with theory? The codec's steps over an ideal channel beside the bound's terms for the same steps.

    python -m bench.agreement DATA [--tile 32] [--images 200] [--model cifar10] -o agreement.json

The first walks: every z_s is drawn from q given the z_t before it, as over an ideal channel. The second
(``ddpm-codec bpd --steps codec``) draws each z_t from q(z_t | x) by itself. In expectation they are equal.
"""

from __future__ import annotations

import click
import numpy as np
from tqdm import tqdm

from bench.harness.command import COUNT, command
from bench.harness.pick import draw
from bench.reporting.output import finish, output_options
from bench.reporting.run import Run
from bench.reporting.table import Table
from codec import Codec, Target
from codec.diagrams import Diagram
from codec.terms import CodeTerms
from ddpm.diffusion.bound import Bound, bound
from ddpm.images.batches import alike, stacked


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
            x = stacked([pictures[i] for i in indices[k : k + batch]])
            drawn.append(bound(CodeTerms(codec.setting(size, grey), whole=True), [x], seed=k, quiet=True))
    found, walked = Bound.merge(drawn), np.array(walked)
    gap = walked - found.parts[:, :2].sum(1)
    return {
        "images": len(walked),
        "walked_bits_per_dim": float(walked.mean()),
        "bound_bits_per_dim": found.rate,
        "difference": float(gap.mean() / found.rate),
        "stderr": float(gap.std(ddof=1) / len(gap) ** 0.5 / found.rate),
    }


def present(result: dict) -> tuple[list[Diagram], list[Table]]:
    """One table."""
    columns = {
        "pictures": "{images}",
        "bits/dim over an ideal channel": "{walked_bits_per_dim:.4f}",
        "bound of the same steps": "{bound_bits_per_dim:.4f}",
        "difference": "{difference:+.2%} +- {stderr:.2%}",
    }
    return [], [Table.of("agreement", result["rows"], columns)]


@command()
@click.argument("data")
@click.option("--tile", type=COUNT)
@click.option("--images", type=COUNT, default=200, show_default=True)
@click.option("--batch", type=COUNT, default=50, show_default=True)
@click.option("--model", default="cifar10", show_default=True)
@click.option("--device", default="auto", show_default=True)
@output_options
def main(data, tile, images, batch, model, device, output, plot):
    """Measure the agreement on pictures of one size, drawn at random."""
    pictures, codec = draw(data, tile, images), Codec(model, device)
    run = Run("agreement", codec.model, data=data, tile=tile)
    finish(run.result([measure(codec, pictures, batch)]), output, plot)


if __name__ == "__main__":
    main()
