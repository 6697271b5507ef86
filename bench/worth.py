"""What a bit is worth in each band of frequencies: the squared error of the picture that goes for a bit sent there.

    python -m bench.worth DATA [--tile 32] [--model photo] [--images 24] [--crop 192] [--block 16] -o worth.json

A schedule of bands is at its best where that is the same in all that are sent (reverse water-filling: Cover & Thomas,
10.3.3). Of a band's SNR more takes -dD/dSNR from the picture's error, and costs half the band's own error in nats
(Guo et al. 2005). The first is measured by finite differences: z with more and less noise in the band, the same draw,
shown to the same network. Its error is least where it was trained, so what it would learn from less noise is of second
order. --block: side of the cosines' blocks, of models whose noise is isotropic.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields

import click
import numpy as np
import torch
from tqdm import tqdm

from bench.harness.command import COUNT, command
from bench.harness.pick import draw
from bench.reporting.output import finish, output_options
from bench.reporting.run import Run
from bench.reporting.table import Table
from codec.diagrams import Axis, Diagram, Series
from ddpm.diffusion.bands import BANDS, RINGS, Bands
from ddpm.diffusion.cosines import band_of
from ddpm.diffusion.likelihood import LN2, to_unit
from ddpm.diffusion.noise import Noise
from ddpm.diffusion.process import Banded
from ddpm.diffusion.reverse import Reverse
from ddpm.images.batches import batches
from ddpm.models.load import load_model
from ddpm.models.model import DDPM

PIXELS = 1 << 17  # of a batch
CHANGE = 0.15  # of an SNR, up and down
LEAST = 0.002  # share of the rate from which a band is shown
COLOUR_NAMES = ("grey", "red - blue", "green")


@dataclass(frozen=True)
class Changed(Bands):
    """With another SNR in one band."""

    band: int = 0
    factor: float = 1.0

    def snr(self, t) -> np.ndarray:
        return super().snr(t) * np.where(np.arange(BANDS) == self.band, self.factor, 1.0)


def isotropic(model: DDPM, pictures: list[np.ndarray], block: int) -> Bands:
    """The bands of a model that has none, with the variances that these pictures have in them."""
    ends, total, count = (model.schedule.gamma_max, model.schedule.gamma_min), np.zeros(BANDS), np.zeros(BANDS)
    even = Bands(ends, ((1.0,) * BANDS,) * 2, (1.0,) * BANDS, block)
    for batch in batches(pictures, PIXELS, by_grey=False):
        energy = by_band(Banded(even).coordinates(to_unit(batch.x).double()) ** 2, block)
        total, count = total + energy.sum(0).numpy(), count + len(energy) * sizes(block, batch.x)
    return Bands(ends, even.ratios, tuple((total / count).tolist()), block)


def by_band(values: torch.Tensor, block: int) -> torch.Tensor:
    """Sums over the coordinates of each band, (B, 3, H, W) -> (B, BANDS) float64."""
    band = band_of(block, (values.shape[2], values.shape[3])).long().to(values.device)
    return values.new_zeros(len(values), BANDS, dtype=torch.float64).index_add_(
        1, band.flatten(), values.double().flatten(1)
    )


def sizes(block: int, x: torch.Tensor) -> np.ndarray:
    """(BANDS,): coordinates of each band in pictures like x."""
    return np.bincount(band_of(block, (x.shape[2], x.shape[3])).flatten().numpy(), minlength=BANDS)


@torch.inference_mode()
def measure_level(reverse: Reverse, bands: Bands, t: float, x: torch.Tensor, numbers: np.ndarray) -> tuple:
    """x (B, 3, H, W) uint8, known by their numbers -> squared errors of the pictures, those that go for a unit more of
    ln SNR in each band, and the nats that this costs: (B,), (B, BANDS), (B, BANDS)."""
    values, scale = to_unit(x), bands.scale(t)
    coordinates = Banded(bands).coordinates(values)
    eps = Noise(round(1000 * (t + 100)), numbers, x.shape[1:]).draw(x.device)
    gamma = torch.full((len(x),), t, dtype=torch.float64, device=x.device)

    def error(of: Bands) -> torch.Tensor:
        process = Banded(of)
        step = process.over(process.step(t, t - 1), coordinates)
        seen = process.seen(step, step.alpha_t * coordinates + step.sigma_t * eps)
        return reverse.look(gamma, seen, scale)[0] - values

    here, parts = error(bands), {f.name: getattr(bands, f.name) for f in fields(bands)}
    snr, gained = bands.snr(t), torch.zeros(len(x), BANDS, dtype=torch.float64)
    for band in np.flatnonzero(snr):
        less, more = (error(Changed(**parts, band=int(band), factor=1 + c)).double() for c in (-CHANGE, CHANGE))
        gained[:, band] = (less**2 - more**2).sum((1, 2, 3)) / (2 * CHANGE)
    own = by_band(Banded(bands).coordinates(here) ** 2, bands.block)
    return (here.double() ** 2).sum((1, 2, 3)), gained, own * torch.from_numpy(snr) / 2


def measure(model: DDPM, bands: Bands, pictures: list[np.ndarray], levels: int) -> Iterator[dict]:
    """A row for each level and band that is sent there."""
    reverse, work = Reverse(model), [*batches(pictures, PIXELS, by_grey=False)]
    high, low = bands.gamma_max, bands.gamma_min
    for t in tqdm(np.linspace(high, low, levels + 2)[1:-1], desc="levels", disable=None):
        parts = [measure_level(reverse, bands, float(t), b.x, np.asarray(b.numbers)) for b in work]
        error, gained, nats = (torch.cat(of).numpy() for of in zip(*parts))
        psnr = 10 * math.log10(4 * sum(b.x.numel() for b in work) / error.sum())
        mean = gained.sum() / nats.sum()
        for band in np.flatnonzero(nats.sum(0)):
            worth = gained[:, band].sum() / nats[:, band].sum()
            rest = (gained[:, band] - worth * nats[:, band]) / nats[:, band].sum()
            yield {
                "t": float(t),
                "psnr": psnr,
                "band": int(band),
                "share": float(nats[:, band].sum() / nats.sum()),
                "worth": float(worth / mean),
                "stderr": float(rest.std(ddof=1) * math.sqrt(len(rest)) / mean) if len(rest) > 1 else None,
                "error_per_bit": float(worth * LN2),
            }


def present(result: dict) -> tuple[list[Diagram], list[Table]]:
    """Worth by ring and level, of bands that have some share of the rate."""
    rows = [row for row in result["rows"] if row["share"] >= LEAST]
    levels = sorted({(-row["t"], row["psnr"]) for row in rows})
    diagrams, shown = [], []
    for colour, name in enumerate(COLOUR_NAMES):
        series = []
        for negative, psnr in levels:
            at = {r["band"] % RINGS: r for r in rows if r["t"] == -negative and r["band"] // RINGS == colour}
            if at:
                series.append(Series(f"{psnr:.1f} dB", [*at], [row["worth"] for row in at.values()]))
                cells = {
                    f"ring {i}": f"{at[i]['worth']:.2f} ({at[i]['share']:.1%})" if i in at else "" for i in range(RINGS)
                }
                shown.append({"colour": name, "t": -negative, "psnr": psnr} | cells)
        axes = Axis(f"ring of frequencies, {name}"), Axis("error that goes for a bit, of the mean")
        diagrams.append(Diagram(f"what a bit is worth, {name}", *axes, series))
    columns = {"": "{colour}", "t": "{t:.2f}", "PSNR": "{psnr:.2f}"} | {
        f"ring {i}": f"{{ring {i}}}" for i in range(RINGS)
    }
    return diagrams, [Table.of("worth", shown, columns)]


@command()
@click.argument("data")
@click.option("--tile", type=COUNT)
@click.option("--images", type=COUNT, default=24, show_default=True)
@click.option("--crop", type=COUNT, default=192, show_default=True)
@click.option("--levels", type=COUNT, default=10, show_default=True)
@click.option("--block", type=click.IntRange(1, 256), default=16, show_default=True)
@click.option("--model", default="photo", show_default=True)
@output_options
def main(data, tile, images, crop, levels, block, model, output, plot):
    """Measure what a bit is worth in each band of frequencies."""
    pictures, model = draw(data, tile, images, crop), load_model(model)
    bands = model.schedule if isinstance(model.schedule, Bands) else isotropic(model, pictures, block)
    run = Run("worth", model, data=data, crop=crop, images=len(pictures), block=bands.block)
    finish(run.result(list(measure(model, bands, pictures, levels))), output, plot)


if __name__ == "__main__":
    main()
