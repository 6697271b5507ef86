"""Archives beside the model's bound on the same pictures and levels, and beside classical codecs; bits per value.

    python -m bench.archive DATA [--tile 32] [--images 256] [--steps codec] [--model cifar10] [--growth] -o archive.json

Rows as in lengths.py. ``net`` is what the pictures coded by bits-back add to the stack, ``bound`` the same pictures'
bound, ``bits_per_dim`` the whole file over all pictures, with its table and the first pictures that are files of their
own. All colours count, of grey pictures too. The coder alone is measured with one batch: ``coder`` is what it adds to
the log-densities of the very latents and pixels; ``coder_ns`` the time of pop and push together, for one value and
step, to code and to decode. --growth: archives of the first 1, 2, 4, ... pictures, beside one file for each. --keep
FOLDER: what is done is kept there, and the same command goes on from it.
"""

from __future__ import annotations

import math
import time
import zlib
from pathlib import Path

import click
import numpy as np
import torch
from tqdm import tqdm

from bench.baselines.peers import lossless_rows
from bench.harness.command import COUNT, FROM_ZERO, command, folder
from bench.harness.ledger import Ledger
from bench.harness.parts import Parts
from bench.harness.pick import draw
from bench.harness.watch import Watch
from bench.reporting.lengths import ARCHIVE, GROWTH, published_option
from bench.reporting.output import finish, output_options
from bench.reporting.run import Run
from codec import Codec, Target
from codec.archive import create, evaluations, extract
from codec.archive.bitsback import Stack, bitsback_for, gaussians_for
from codec.archive.header import unpack
from codec.archive.patches import CODE, kinds
from codec.cli.types import Steps
from codec.device import pick_device
from codec.images.pictures import MAX_PIXELS, is_grey
from codec.lossy.setting import Setting
from codec.lossy.tables import CodingTables
from codec.terms import CodeTerms, ContextTerms
from ddpm.diffusion.bound import bound, terms_for
from ddpm.diffusion.reverse import Reverse
from ddpm.models.load import load_model


def patches(pictures, kind, where) -> np.ndarray:
    """(B, H, W, 3) of one kind, places (n, 3) of picture, top, left."""
    height, width, _ = kind
    return np.stack([pictures[i][top : top + height, left : left + width] for i, top, left in where])


def bound_of(model, pictures, together, steps, *, draws, samples, parts) -> float:
    """Bits of all patches, mean over draws of z: all terms, or with T levels so many of each patch (``bound``)."""
    bits = first = 0
    for number, (kind, where) in enumerate(tqdm(together, "bound", disable=None)):
        x = torch.from_numpy(patches(pictures, kind, where).transpose(0, 3, 1, 2))
        size, grey = kind[:2], kind[2] == 1
        if steps == CODE:
            tables = CodingTables.of_model(model)
            terms = CodeTerms(Setting(model, tables, tables.plan(size, grey, every_level=True), size, grey), whole=True)
        else:
            terms = ContextTerms(terms_for(Reverse(model), steps))
        how = {"samples": samples, "numbers": [range(first, first + len(x))], "quiet": True}
        first += len(x)
        means = [
            parts(
                f"bound {number}, draw {s}" + (f", {samples} terms" if samples else ""),
                lambda x=x, of=terms, s=s, how=how: float(bound(of, [x], seed=s, **how).total),
            )
            for s in range(draws)
        ]
        bits += sum(means) / draws * len(x) * math.prod(kind)
    return bits


def coder(model, x: np.ndarray, steps: int) -> dict:
    """The coder alone, on a batch (B, C, H, W): excess in bits per value, nanoseconds per value and level."""
    bitsback = bitsback_for(model, steps)((*x.shape[2:], x.shape[1]))
    filled = np.random.default_rng(0).integers(1, 1 << 32, x.size, dtype=np.uint32)
    ledger, stack = (kind(gaussians_for(model, steps), filled) for kind in (Ledger, Stack))
    before = ledger.bits
    bitsback.push(ledger, x)
    excess = (ledger.bits - before - ledger.ideal) / x.size
    with Watch(torch.device("cpu")) as watch:
        for name in ("push", "pop", "push_pixels", "pop_pixels", "_mask"):
            watch.over(Stack, name, "coder")
        bitsback.push(stack, x)
        pushed = watch.seconds["coder"]
        back = bitsback.pop(stack, x.shape)
    if not np.array_equal(back, x):
        raise RuntimeError("a picture did not come back")
    each = 1e9 / (x.size * bitsback.evaluations)
    return {"coder": excess, "coder_ns": [pushed * each, (watch.total - pushed) * each]}


def singles(model, pictures: list[np.ndarray]) -> list[int]:
    """Bytes of lossless files, one for each picture."""
    codec, parts = Codec(model), [pictures[k : k + 16] for k in range(0, len(pictures), 16)]
    return [len(file.data) for part in parts for file in codec.encode(part, Target(lossless=True))]


def growth(model, pictures: list[np.ndarray], steps: int) -> list[dict]:
    """Bytes of archives of the first 1, 2, 4, ... pictures, beside those of files of their own."""
    alone, counts = np.cumsum(singles(model, pictures)), [2**k for k in range(len(pictures).bit_length())]
    named = named_pictures(pictures)
    return [
        {"code": GROWTH, "images": n, "archive": len(create(named[:n], model, steps)), "single": int(alone[n - 1])}
        for n in tqdm(counts, "archives", disable=None)
    ]


def named_pictures(pictures):
    """Grey ones with one channel, as people's files have it."""
    return [(f"{i:06d}.png", p[..., 0] if is_grey(p) else p) for i, p in enumerate(pictures)]


def extraction(data: bytes, model, named, work: int) -> float:
    """Seconds to have all pictures back, compared with what went in."""
    start, rest = time.monotonic(), dict(named)
    with tqdm(total=work, desc="extract", disable=None) as bar:
        for name, picture in extract(data, model, max_pixels=1 << 32, progress=bar.update):
            if not np.array_equal(picture, rest.pop(name)):
                raise RuntimeError(f"{name} came back as another picture")
    if rest:
        raise RuntimeError(f"{len(rest)} pictures did not come back")
    return time.monotonic() - start


def measure(
    model,
    pictures: list[np.ndarray],
    steps: int,
    *,
    draws: int,
    check: bool,
    keep: Path | None = None,
    samples: int | None = None,
) -> dict:
    """Means over the values of all pictures."""
    named = named_pictures(pictures)
    crc = zlib.crc32(b"".join(p.tobytes() for p in pictures))
    parts = Parts(keep, {"model": model.fingerprint.hex(), "steps": steps, "pictures": len(pictures), "crc": crc})
    most = max(MAX_PIXELS, *(p.shape[0] * p.shape[1] for p in pictures))
    work = evaluations(model, kinds([p.shape[:2] for p in pictures], [is_grey(p) for p in pictures], steps), steps)
    with tqdm(total=work, desc="create", disable=None) as bar:
        data, create_s = parts.data(
            "archive.ddpma", lambda: create(named, model, steps, max_pixels=most, progress=bar.update)
        )
    extract_s = parts("extract", lambda: extraction(data, model, named, work)) if check else None
    c = unpack(data)
    together = [(kind, where) for entry, kind, where in c.batches if entry > 0]
    values = sum(p.size for p in pictures)
    coded = sum(3 * kind[0] * kind[1] * len(where) for kind, where in together)
    files = sum(n for n, _ in c.kept.values()) - sum(n for n in c.plan if n < 0)
    row = {"code": ARCHIVE, "steps": steps or "codec", "images": len(pictures)}
    row |= {"looks": work // len(pictures), "bits_per_dim": 8 * len(data) / values, "stored": c.stored}
    if coded:
        row["net"] = (32 * c.count - 8 * files) / coded
        if draws:
            how = {"draws": draws, "samples": samples, "parts": parts}
            row["bound"] = bound_of(model, pictures, together, steps, **how) / coded
        kind, where = max(together, key=lambda batch: len(batch[1]) * math.prod(batch[0]))
        x = patches(pictures, kind, where)[..., : kind[2]]
        row |= coder(model, x.transpose(0, 3, 1, 2), steps)
    if c.stored:
        row["stored_bits"] = 8 * files / (values - coded)
    row["table"] = 8 * c.start / values
    return row | {"encode_s": create_s / len(pictures), "decode_s": extract_s / len(pictures) if check else None}


@command()
@click.argument("data")
@click.option("--tile", type=COUNT)
@click.option("--images", type=COUNT, default=256, show_default=True)
@click.option("--model", default="cifar10", show_default=True)
@click.option("--steps", type=Steps("codec"), default="codec", show_default=True)
@click.option(
    "--draws", type=FROM_ZERO, default=1, show_default=True, help="Of the latents, for the bound; 0: without."
)
@click.option("--samples", type=COUNT, help="Terms drawn of each, for the bound at T; default: all.")
@click.option("--check/--no-check", default=True, show_default=True, help="Extract and compare all pictures.")
@click.option("--growth", "also_growth", is_flag=True, help="Of 1, 2, 4, ... pictures, instead.")
@click.option("--device", default="auto", show_default=True)
@click.option("--keep", type=Path, callback=folder, help="Folder for what is done; the same command goes on from it.")
@published_option
@output_options
def main(data, tile, images, model, steps, draws, samples, check, also_growth, device, keep, published, output, plot):
    """Measure archives."""
    levels = CODE if steps == "codec" else steps
    if samples and levels == CODE:
        raise click.UsageError("of the codec's own steps the bound takes all terms; leave --samples out")
    pictures = [np.ascontiguousarray(p) for p in draw(data, tile, images)]
    model = load_model(model, pick_device(device))
    run = Run("lengths", model, data=data, tile=tile, images=images, published=published)
    if also_growth:
        rows = growth(model, pictures, levels)
    else:
        how = {"draws": draws, "check": check, "keep": keep, "samples": samples}
        rows = [measure(model, pictures, levels, **how), *lossless_rows(pictures)]
    finish(run.result(rows), output, plot)


if __name__ == "__main__":
    main()
