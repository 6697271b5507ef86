"""Photographs: real files beside JPEG and WebP at no fewer bytes; PSNR and MS-SSIM.

    python -m bench.kodak FOLDER [--rates 0.1,0.2,0.4] [--cut] [--images 24] [--model photo] -o kodak.json

With --cut there is one file of each picture, of the highest rate, and the lower rates are what the first bytes of it
show; without, a file is made for each rate, which is a little better at that rate.
PSNR is of RGB, from the mean squared error over all pictures of the set. MS-SSIM (Wang et al. 2003) is the mean over
pictures of that of the luma channel.
"""

from __future__ import annotations

import io
import json
import time
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np
from PIL import Image
from tqdm import tqdm

from codec import Codec, Target
from codec.api import psnr
from codec.pictures import read_picture

from .msssim import ms_ssim
from .peers import PEERS, at_least


def judge(picture: np.ndarray, array: np.ndarray, n_bytes: int) -> dict:
    luma = [np.asarray(Image.fromarray(a).convert("L"), float) for a in (picture, array)]
    error = float(np.mean((array.astype(float) - picture) ** 2))
    return {"bytes": n_bytes, "bits_per_dim": 8 * n_bytes / picture.size, "mse": error, "ms_ssim": ms_ssim(*luma)}


def judge_file(picture: np.ndarray, data: bytes) -> dict:
    """The same of a file that Pillow reads."""
    return judge(picture, np.asarray(Image.open(io.BytesIO(data)).convert("RGB")), len(data))


def ours(codec: Codec, picture: np.ndarray, rate: float) -> Iterator[tuple[float, int, np.ndarray, dict]]:
    """One file at a rate: (rate, bytes, picture decoded, other figures)."""
    start = time.monotonic()
    [coded] = codec.encode([picture], Target(bits_per_dim=rate))
    middle = time.monotonic()
    array = codec.decode([coded.data])[0].array
    seconds = {"encode_s": middle - start, "decode_s": time.monotonic() - middle}
    yield rate, len(coded.data), array, seconds | {"ideal_bits_per_dim": coded.ideal_bits / coded.dims}


def ours_cut(codec: Codec, picture: np.ndarray, rates: list[float]) -> Iterator[tuple[float, int, np.ndarray, dict]]:
    """One file at the highest rate, cut at each rate after the last step that is whole: the same rows as ``ours``."""
    [coded] = codec.encode([picture], Target(bits_per_dim=max(rates)))
    best = {}
    for stage in codec.stages(coded.data):
        for rate in rates:
            if 8 * stage.bytes <= rate * picture.size:
                best[rate] = stage
    for rate, stage in best.items():
        yield rate, stage.bytes, stage.array, {}


def measure(file: Path, codec: Codec, rates: list[float], cut: bool) -> list[dict]:
    """One row per rate and codec for a picture."""
    rows, picture = [], read_picture(file)
    coded = ours_cut(codec, picture, rates) if cut else (row for rate in rates for row in ours(codec, picture, rate))
    for rate, n_bytes, array, figures in coded:
        results = {"ddpm-codec": judge(picture, array, n_bytes) | figures}
        for name, encoder in PEERS.items():
            results[name] = judge_file(picture, at_least(encoder, picture, n_bytes))
        rows += [{"file": file.name, "asked": rate, "codec": name, **r} for name, r in results.items()]
    return rows


def summary(rows: list[dict]) -> list[dict]:
    """Over the set, per rate and codec: mean bits/dim, PSNR of the mean MSE, mean MS-SSIM, mean seconds."""
    out = []
    for rate, name in sorted({(r["asked"], r["codec"]) for r in rows}):
        part = [r for r in rows if (r["asked"], r["codec"]) == (rate, name)]
        mean = lambda key: float(np.mean([r[key] for r in part]))  # noqa: B023, E731
        out.append(
            {
                "asked": rate,
                "codec": name,
                "images": len(part),
                "bits_per_dim": mean("bits_per_dim"),
                "psnr": psnr(mean("mse")),
                "ms_ssim": mean("ms_ssim"),
            }
        )
        if "encode_s" in part[0]:
            out[-1] |= {"encode_s": mean("encode_s"), "decode_s": mean("decode_s")}
    return out


@click.command()
@click.argument("folder", type=Path)
@click.option("--rates", default="0.1,0.2,0.4", show_default=True)
@click.option("--cut", is_flag=True, help="One file of a picture, cut at each rate.")
@click.option("--images", type=int, help="Only the first so many pictures.")
@click.option("--model", default="photo", show_default=True)
@click.option("--device", default="auto", show_default=True)
@click.option("-o", "--output", type=Path)
def main(folder, rates, cut, images, model, device, output):
    """Compare on a folder of photographs."""
    codec = Codec(model, device)
    files = sorted(p for p in folder.iterdir() if p.suffix.lower() == ".png")[:images]
    rows = []
    for file in tqdm(files, desc="pictures", disable=None):
        rows += measure(file, codec, [float(r) for r in rates.split(",")], cut)
        table = summary(rows)
        if output:
            result = {"model": codec.model.name, "cut": cut, "summary": table, "rows": rows}
            output.write_text(json.dumps(result, indent=1))
    print(f"{len(files)} pictures, model {codec.model.name}, {'cut' if cut else 'whole'} files")
    print("asked   codec        bits/dim   PSNR dB   MS-SSIM   encode s   decode s")
    for r in table:
        seconds = f"{r['encode_s']:10.1f} {r['decode_s']:10.1f}" if "encode_s" in r else ""
        print(
            f"{r['asked']:5.2f}   {r['codec']:10} {r['bits_per_dim']:10.4f} "
            f"{r['psnr']:9.2f} {r['ms_ssim']:9.4f}{seconds}"
        )


if __name__ == "__main__":
    main()
