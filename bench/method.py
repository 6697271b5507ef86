"""The figure of docs/method.md: one small picture on its way from noise, and what each step sends.

    python -m bench.method -o docs/method.webp

A photograph in the repository is reduced to 32x32 and coded with ``cifar10`` in all its steps. What is shown is what
the decoder holds; only KL and PSNR look at the original.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image

from bench.channels.cases import followed
from bench.harness.command import command, writable
from bench.harness.photograph import BOX, PICTURE
from bench.metrics.judge import mse
from bench.reporting.output import wrote
from codec import Codec, Target
from codec.api import psnr
from codec.lossy.reconstruct import shown
from ddpm.diffusion.gaussian import kl_nats
from ddpm.diffusion.likelihood import LN2, to_unit
from ddpm.diffusion.schedule import alpha_sigma
from ddpm.images.batches import stacked

SHOWN = (0, 2, 4, 7, 11, 15, 20, 29)  # steps taken


@dataclass
class Moment:
    """The decoder's state before a step, or at the end, where there is no step and so no KL."""

    gamma: float
    z: np.ndarray  # (32, 32, 3), in [0, 1] for the eye
    x_hat: np.ndarray  # uint8
    kl: float = 0.0  # bits


def small_picture() -> np.ndarray:
    """(32, 32, 3) uint8: the head of a macaw, by box mean."""
    with Image.open(PICTURE) as photograph:
        return np.array(photograph.convert("RGB").crop(BOX).resize((32, 32), Image.Resampling.BOX))


@torch.inference_mode()
def moments(codec: Codec, picture: np.ndarray, data: bytes) -> list[Moment]:
    """The decoder's way through a file."""
    x = to_unit(stacked([picture])).to(codec.model.device)
    (chain, predictions), out = followed(codec, data), []

    def keep(x_hat, kl=0.0):
        z = chain.seen()[0].permute(1, 2, 0).cpu().numpy() / (1 + alpha_sigma(chain.gamma)[1])
        out.append(Moment(chain.gamma, ((z + 1) / 2).clip(0, 1), shown(chain, x_hat)[0], kl))

    for p in predictions:
        keep(p.x_hat, float(kl_nats(chain.delta(p, x) ** 2, p.r).sum()) / LN2)
    keep(chain.denoise()[0])
    return out


def draw(picture: np.ndarray, way: list[Moment], sizes: list[int], path: Path) -> None:
    total = np.cumsum([0, *sizes]) / picture.size
    figure = Figure(figsize=(10, 5.7), dpi=100)
    grid = figure.add_gridspec(2, len(SHOWN), left=0.05, right=0.995, top=0.92, bottom=0.485, hspace=0.04, wspace=0.04)
    for column, k in enumerate(SHOWN):
        top, below = (figure.add_subplot(grid[row, column], xticks=[], yticks=[]) for row in (0, 1))
        top.imshow(way[k].z)
        below.imshow(way[k].x_hat)
        gamma = f"{way[k].gamma:.2f}".replace("-", "−") if np.isfinite(way[k].gamma) else "∞"
        top.set_title(f"{k} steps\nγ = {gamma}", fontsize=9)
        below.set_xlabel(f"{total[k]:.3f} bits/dim\n{psnr(mse(way[k].x_hat, picture)):.1f} dB", fontsize=9)
        if column == 0:
            top.set_ylabel("$z_t$", rotation=0, fontsize=14, labelpad=16, va="center")
            below.set_ylabel(r"$\hat{x}$", rotation=0, fontsize=14, labelpad=16, va="center")
    axis, step = figure.add_axes((0.06, 0.085, 0.885, 0.29)), np.arange(1, len(sizes) + 1)
    axis.bar(step - 0.2, sizes, 0.4, color="#1f5fa8", label="bits sent")
    axis.bar(step + 0.2, [m.kl for m in way[:-1]], 0.4, color="#e39a2d", label="KL(q || p), bits")
    axis.set(xlabel="step", ylabel="bits of the step", xlim=(0.3, len(sizes) + 0.7), xticks=step)
    axis.tick_params(labelsize=8.5)
    other = axis.twinx()
    other.plot(step, total[1:], color="#333333", lw=1.3, marker=".", ms=4, label="sent so far, bits/dim (right)")
    other.set(ylabel="bits/dim", ylim=(0, None))
    handles, labels = (a + b for a, b in zip(axis.get_legend_handles_labels(), other.get_legend_handles_labels()))
    axis.legend(handles, labels, loc="upper left", frameon=False, fontsize=9)
    figure.savefig(path, facecolor="white")


@command()
@click.option("-o", "--output", type=Path, callback=writable, default=Path("method.webp"), show_default=True)
def main(output):
    """Draw the figure of docs/method.md."""
    codec, picture = Codec("cifar10"), small_picture()
    [file] = codec.encode([picture], Target(steps=codec.plan(32, 32, False).steps))
    draw(picture, moments(codec, picture, file.data), list(codec.open(file.data).allotment.sizes), output)
    wrote(output)


if __name__ == "__main__":
    main()
