"""What an ideal channel would send at equal quality, by models whose noise differs: the chain at infinitely many steps.

    python -m bench.ideal DATA --model photo --model RUN [--images 24] [--crop 96] [--levels 48] -o ideal.json

At each level t the picture is x_hat(z_t), z_t ~ q(z_t | x), and the bits up to there are L_T and the integral of
1/2 sum_b SNR_b' |x_b - x_hat_b|^2 (Kingma et al. 2021, eq. 14; Guo et al. 2005 for the channel). In floats, one look
each: of isotropic noise at the full size, of noise by frequency as its schedule says. The first model is what the
others are compared with, picture by picture.
"""

from __future__ import annotations

from collections.abc import Iterator

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
from codec.errors import CodecError
from ddpm.diffusion.bound import per_dim, terms_for
from ddpm.diffusion.likelihood import LN2, to_levels, to_unit
from ddpm.diffusion.noise import Noise
from ddpm.diffusion.reverse import Reverse
from ddpm.images.batches import batches
from ddpm.models.load import load_model
from ddpm.models.model import DDPM

PIXELS = 1 << 17  # of a batch
AT = (24, 26, 28, 30, 32, 34, 36, 38, 40)  # dB


@torch.inference_mode()
def walk(model: DDPM, x: torch.Tensor, numbers: np.ndarray, levels: int, seed=0) -> tuple[np.ndarray, np.ndarray]:
    """x (B, 3, H, W) uint8, known by their numbers -> bits/dim up to each of so many levels of t, and PSNR there, both
    (levels, B)."""
    reverse = Reverse(model)
    process, t = reverse.process, np.linspace(model.schedule.gamma_max, model.schedule.gamma_min, levels)
    values, noise = to_unit(x), Noise(seed, numbers, x.shape[1:])
    coordinates, integrand, psnr = process.coordinates(values), [], []
    for gamma in t:
        step = process.over(process.step(float(gamma), float(gamma) - 1), coordinates)
        z = step.alpha_t * coordinates + step.sigma_t * noise.draw(x.device)
        x_hat, _, _ = reverse.evaluate(step, z)
        integrand.append(per_dim(process.slope(step) * (coordinates - x_hat) ** 2).double() / 2)
        error = (to_levels(process.pixels(x_hat)).float() - x.float()).square().flatten(1).mean(1)
        psnr.append(10 * (255**2 / error.clamp(min=1e-9)).log10())
    rate, each = torch.stack(integrand), torch.tensor(-np.diff(t))[:, None]
    sums = torch.cat([torch.zeros_like(rate[:1]), ((rate[1:] + rate[:-1]) / 2 * each).cumsum(0)])
    prior = terms_for(reverse, 2).prior(values)
    return ((sums + prior) / LN2).numpy(), torch.stack(psnr).double().numpy()


def measure(models: list[DDPM], pictures: list[np.ndarray], levels: int) -> Iterator[dict]:
    """A row for each model, picture and level."""
    work = [(model, batch) for model in models for batch in batches(pictures, PIXELS, by_grey=False)]
    for model, batch in tqdm(work, desc="ideal", disable=None):
        for level, of_level in enumerate(zip(*walk(model, batch.x, np.asarray(batch.numbers), levels))):
            for number, bits, psnr in zip(batch.numbers, *of_level):
                yield {
                    "model": model.name,
                    "picture": int(number),
                    "level": level,
                    "bits_per_dim": float(bits),
                    "psnr": float(psnr),
                }


def at_quality(rows: list[dict]) -> dict[str, np.ndarray]:
    """model -> bits/dim (pictures, len(AT)), NaN beyond what its levels reach."""
    curves: dict[tuple[str, int], list] = {}
    for row in rows:
        curves.setdefault((row["model"], row["picture"]), []).append((row["psnr"], row["bits_per_dim"]))
    found: dict[str, list] = {}
    for (model, _), points in curves.items():
        psnr, bits = np.array(points).T
        psnr = np.maximum.accumulate(psnr)
        found.setdefault(model, []).append(np.exp(np.interp(AT, psnr, np.log(bits), left=np.nan, right=np.nan)))
    return {model: np.stack(curves) for model, curves in found.items()}


def present(result: dict) -> tuple[list[Diagram], list[Table]]:
    """Bits saved by each model against the first, by PSNR."""
    found = at_quality(result["rows"])
    (first, base), *others = found.items()
    known = np.isfinite(np.stack([*found.values()])).all(0)
    rows, series = [], []
    for model, bits in found.items():
        mean = [float(bits[known[:, i], i].mean()) if known[:, i].any() else None for i in range(len(AT))]
        rows.append({"model": model, "what": "bits/dim"} | {f"{db} dB": v for db, v in zip(AT, mean)})
    for model, bits in others:
        ratio = np.log(bits / base)
        saved = [float(np.expm1(ratio[known[:, i], i].mean())) if known[:, i].any() else None for i in range(len(AT))]
        rows.append({"model": model, "what": f"against {first}"} | {f"{db} dB": v for db, v in zip(AT, saved)})
        points = [(db, 100 * v) for db, v in zip(AT, saved) if v is not None]
        series.append(Series(model, *map(list, zip(*points))))
    for row in rows:
        form = "{:.4f}" if row["what"] == "bits/dim" else "{:+.1%}"
        row |= {key: form.format(v) if v is not None else "" for key, v in row.items() if key.endswith("dB")}
    counts = {"model": "pictures", "what": ""} | {f"{db} dB": str(int(n)) for db, n in zip(AT, known.sum(0))}
    columns = {"": "{model}", " ": "{what}"} | {f"{db} dB": f"{{{db} dB}}" for db in AT}
    axes = Axis("PSNR, dB"), Axis(f"bits of an ideal channel against {first}, %")
    return [Diagram("ideal channels", *axes, series)], [Table.of("ideal", [*rows, counts], columns)]


@command()
@click.argument("data")
@click.option("--tile", type=COUNT)
@click.option("--images", type=COUNT, default=24, show_default=True)
@click.option("--crop", type=COUNT, default=96, show_default=True)
@click.option("--levels", type=click.IntRange(2), default=48, show_default=True)
@click.option("--model", "names", multiple=True, default=("photo",), show_default=True, help="Repeatable; runs too.")
@output_options
def main(data, tile, images, crop, levels, names, output, plot):
    """Compare what ideal channels would send with models at equal PSNR."""
    pictures, models = draw(data, tile, images, crop), [load_model(name) for name in names]
    if len({model.name for model in models}) < len(models):
        raise CodecError("two models of one name")
    run = Run("ideal", models[0], data=data, crop=crop, models=", ".join(model.name for model in models))
    finish(run.result(list(measure(models, pictures, levels))), output, plot)


if __name__ == "__main__":
    main()
