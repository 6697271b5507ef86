"""The channel simulation alone: efficiency, sample bias and time, by message length; all bits counted.

    python -m bench.channel [--dims 3072] [--bits 32,64,128,256,512] [--memory 14] [--draws 60] -o channel.json

Efficiency e = (E<delta, zeta>/|delta|)^2 / (2 ln 2 bits); 1 is the information-theoretic limit. Bias: a draw from q has
the mean |delta| along delta and variance 1 across; the table shows what zeta has where KL = bits.
"""

from __future__ import annotations

import json
import math
import time
from pathlib import Path

import click
import numpy as np
import torch

from codec.trellis import Trellis, decode, encode


def measure(dims: int, bits: int, memory: int, draws: int, seed: int = 0) -> dict:
    """Figures over ``draws`` random directions of delta."""
    generator = torch.Generator().manual_seed(seed)
    code, zeros = Trellis(dims, bits, memory), torch.zeros(dims)
    length = math.sqrt(2 * math.log(2) * bits)
    along, across, seconds = [], [], []
    encode(code, torch.randn(dims, generator=generator), zeros)  # makes the labels
    for _ in range(draws):
        delta = torch.randn(dims, generator=generator)
        delta *= length / delta.norm()
        start = time.perf_counter()
        message = encode(code, delta, zeros)
        seconds.append(time.perf_counter() - start)
        zeta = decode(code, message, zeros)
        along.append(float(delta @ zeta) / length)
        across.append(float(zeta @ zeta - along[-1] ** 2) / (dims - 1))
    e = np.mean(along) ** 2 / (2 * math.log(2) * bits)
    return {
        "dims": dims,
        "bits": bits,
        "memory": code.memory,
        "efficiency": float(e),
        "efficiency_stderr": float(2 * e * np.std(along) / np.mean(along) / math.sqrt(draws)),
        "mean_along_over_target": float(np.mean(along) / length),
        "variance_across": float(np.mean(across)),
        "seconds": float(np.median(seconds)),
    }


@click.command()
@click.option("--dims", default=3072, show_default=True)
@click.option("--bits", default="32,64,128,256,512", show_default=True)
@click.option("--memory", default=14, show_default=True)
@click.option("--draws", default=60, show_default=True)
@click.option("--threads", default=1, show_default=True)
@click.option("-o", "--output", type=Path)
def main(dims, bits, memory, draws, threads, output):
    """Efficiency of the trellis by message length."""
    torch.set_num_threads(threads)
    rows = [measure(dims, int(b), memory, draws) for b in bits.split(",")]
    if output:
        output.write_text(json.dumps(rows, indent=1))
    print("bits    M   efficiency        mean along / target   variance across   seconds")
    for r in rows:
        print(
            f"{r['bits']:4} {r['memory']:4}   {r['efficiency']:.3f} +- {r['efficiency_stderr']:.3f}"
            f" {r['mean_along_over_target']:20.3f} {r['variance_across']:17.3f} {r['seconds']:9.3f}"
        )


if __name__ == "__main__":
    main()
