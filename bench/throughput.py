"""How fast the bound is measured, and how much of that time the network takes.

    python -m bench.throughput [--model cifar10] [--size 32] [--batch 64] [--bf16] [--device cpu] -o throughput.json

Pictures are noise: time does not depend on what they show. Floating-point operations are counted by torch while the
network runs once; with --peak (in TFLOP/s, of the device in that arithmetic) the share of it is given.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

import click
import torch
from torch.utils.flop_counter import FlopCounterMode

from ddpm.bound import bound, chain_for
from ddpm.model import load_model, strict_fp32
from ddpm.reverse import Reverse


class Clock(torch.nn.Module):
    """A model that sums the seconds spent in it; on a GPU it waits for what it started."""

    def __init__(self, model):
        super().__init__()
        self.model, self.schedule, self.device, self.seconds = model, model.schedule, model.device, 0.0

    def forward(self, z, gamma):
        wait(self.device)
        start = time.perf_counter()
        out = self.model(z, gamma)
        wait(self.device)
        self.seconds += time.perf_counter() - start
        return out


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def measure(model, size: int, batch: int, terms: int, bf16: bool) -> dict:
    """Looks of the network at one picture per second, in all and by the network alone."""
    x = torch.randint(0, 256, (batch, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    clock = Clock(model)
    chain = chain_for(Reverse(clock, bf16=bf16), None)
    bound(chain, [x], samples=2, quiet=True)
    clock.seconds, start = 0.0, time.perf_counter()
    bound(chain, [x], samples=terms, quiet=True)
    wait(model.device)
    seconds = time.perf_counter() - start
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        model(torch.zeros(1, 3, size, size, device=model.device), torch.zeros(1, device=model.device))
    looks = batch * (terms + 1)
    return {
        "model": model.name,
        "device": str(model.device),
        "threads": torch.get_num_threads(),
        "bf16": bf16,
        "size": size,
        "batch": batch,
        "looks_per_s": looks / seconds,
        "network_share": clock.seconds / seconds,
        "gflop_per_look": counter.get_total_flops() / 1e9,
        "tflop_per_s": looks * counter.get_total_flops() / seconds / 1e12,
    }


@click.command()
@click.option("--model", default="cifar10", show_default=True)
@click.option("--size", default=32, show_default=True)
@click.option("--batch", default=64, show_default=True)
@click.option("--terms", default=20, show_default=True)
@click.option("--bf16", is_flag=True)
@click.option("--peak", type=float, help="TFLOP/s that the device can do in this arithmetic.")
@click.option("--device", default="cpu", show_default=True)
@click.option("-o", "--output", type=Path)
def main(model, size, batch, terms, bf16, peak, device, output):
    """Measure the throughput of the bound."""
    strict_fp32()
    result = measure(load_model(model, device), size, batch, terms, bf16)
    if peak:
        result["share_of_peak"] = result["tflop_per_s"] / peak
    if output:
        output.write_text(json.dumps(result, indent=1))
    print("\n".join(f"{k:16} {v:.4g}" if isinstance(v, float) else f"{k:16} {v}" for k, v in result.items()))


if __name__ == "__main__":
    main()
