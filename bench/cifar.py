"""CIFAR-10: real files, headers included; mean bits/dim and RMSE over a set of test images.

    python -m bench.cifar test-0.webp --tile 32 [--images 1000] [--steps 8,14,20,26] [--model cifar10] -o cifar.json

All pictures go the same number of steps, so that they end at the same noise level; RMSE is from the mean squared error
over all of them.
"""

from __future__ import annotations

import json
import math
import time
from pathlib import Path

import click
import numpy as np
from tqdm import tqdm

from codec import Codec, Target
from codec.api import psnr
from codec.pictures import is_grey
from ddpm.data import load_images


def measure(pictures: list[np.ndarray], codec: Codec, steps: int, batch: int, check: int = 32) -> dict:
    """Files of all pictures at one number of steps; the first ``check`` are decoded and compared with the claim."""
    start, files = time.monotonic(), []
    for i in tqdm(range(0, len(pictures), batch), desc=f"{steps} steps", disable=None):
        part = pictures[i : i + batch]
        for grey in (False, True):
            chosen = [p for p in part if is_grey(p) == grey]
            if chosen:
                files += [(p, f) for p, f in zip(chosen, codec.encode(chosen, Target(steps=steps)))]
    seconds = time.monotonic() - start
    decoded = codec.decode([f.data for _, f in files[:check]])
    claimed = np.mean([f.mse for _, f in files[:check]])
    seen = np.mean([np.mean((d.array.astype(float) - to_shape(p, d.array)) ** 2) for (p, _), d in zip(files, decoded)])
    if abs(seen / claimed - 1) > 0.01:
        raise RuntimeError(f"decoded files have MSE {seen}, the encoder said {claimed}")
    mse = float(np.mean([f.mse for _, f in files]))
    dims = pictures[0].size  # of colour also for the grey ones, so that bits/dim are per value of the data set
    return {
        "steps": steps,
        "images": len(files),
        "bits_per_dim": float(np.mean([8 * len(f.data) for _, f in files])) / dims,
        "payload_bits_per_dim": float(np.mean([f.payload_bits for _, f in files])) / dims,
        "ideal_bits_per_dim": float(np.mean([f.ideal_bits for _, f in files])) / dims,
        "rmse": math.sqrt(mse),
        "psnr": psnr(mse),
        "encode_s": seconds / len(files),
    }


def to_shape(picture: np.ndarray, array: np.ndarray) -> np.ndarray:
    return picture if array.ndim == 3 else picture[..., 0]


@click.command()
@click.argument("data")
@click.option("--tile", type=int)
@click.option("--images", default=1000, show_default=True)
@click.option("--steps", default="6,10,14,18,22,26", show_default=True)
@click.option("--batch", default=128, show_default=True)
@click.option("--model", default="cifar10", show_default=True)
@click.option("--device", default="auto", show_default=True)
@click.option("-o", "--output", type=Path)
def main(data, tile, images, steps, batch, model, device, output):
    """Bits/dim and RMSE of real files."""
    codec = Codec(model, device)
    pictures = load_images(data, tile)[:images]
    rows = [measure(pictures, codec, int(s), batch) for s in steps.split(",")]
    if output:
        output.write_text(json.dumps({"model": codec.model.name, "rows": rows}, indent=1))
    print(f"{len(pictures)} pictures, model {codec.model.name}, whole files")
    print("steps   bits/dim   payload   sum of KL    RMSE   PSNR dB   s/picture")
    for r in rows:
        print(
            f"{r['steps']:5} {r['bits_per_dim']:10.4f} {r['payload_bits_per_dim']:9.4f} {r['ideal_bits_per_dim']:11.4f}"
            f" {r['rmse']:7.2f} {r['psnr']:9.2f} {r['encode_s']:11.2f}"
        )


if __name__ == "__main__":
    main()
