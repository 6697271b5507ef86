"""The last part of a lossless file whose chain has not gone all the way: the very pixels, one by one.

What the chain has left, the network's picture x_hat, what it expects of its own error, and z, is a belief about every
pixel, those that follow included. Pixels come row by row, of each its three colours in turn (green, red, blue), and a
value is coded under a mixture of predictions: least squares on the pixels known nearby, x_hat around and z (over three
stretches of the past), the gradient of the neighbours, and x_hat itself, with the scale of recent errors nearby or with
that which the network expects. All of it is learned while coding, alike on both sides: there is nothing about it in the
file. See kernel.py.

    4 bytes   CRC-32 of the pixels
    1 byte    the step of which all values are multiples, but for 255 (near.py); they are coded in units of it
    rest      range-coded bits

Least squares over causal neighbours are an old art in lossless coding (Li and Orchard 2001; Wu et al. 2000, TMW: Meyer
and Tischer 1997), so is mixing in the logarithms of odds (Mahoney 2005, PAQ). Here they also see what a diffusion model
knows of what is to come.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from codec.errors import DamagedFile
from codec.lossy.basis import over
from codec.lossy.chain import mean_of_colours
from codec.lossy.denoise import denoise, mirrored_x_hat
from codec.lossy.setting import Setting
from ddpm.diffusion.likelihood import UNIT_LEVELS
from ddpm.diffusion.rounded import exp
from ddpm.exact.roots import sqrt_

from .kernel import PAD, Picture, foresee, learner_of, read, write
from .mixture import Tape, mixer_of, tables, values_of
from .near import from_steps, in_steps, step_of

ORDER = (1, 0, 2)  # green, red, blue

START = 5  # bytes before the bits
ENOUGH = 1 << 13  # pixels from which there is enough to learn from
HANDOVER = -2.3  # gamma at which the chain ends
CHUNK = 1 << 14  # pixels that are coded at once
MOST = 3 * 8 * 4  # bytes that a pixel can take: of each bit of each colour at most four leave the range coder
LARGEST = 1e4  # grey levels, of what is believed


def handover(setting: Setting, enough: int = ENOUGH) -> int | None:
    """After how many steps the chain hands over to this part; None where it does better to go on to its end, as in
    pictures of fewer pixels than are ``enough``."""
    height, width = setting.size
    ends = [k for k, gamma in enumerate(setting.plan.gammas) if gamma <= HANDOVER]
    whole = setting.tables.scales[setting.plan.stops[ends[0]]] == 1 if ends else False
    return ends[0] if height * width >= enough and whole and ends[0] < setting.plan.steps else None


@torch.inference_mode()
def belief_of(setting: Setting, k: int, z: torch.Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """After k steps at z (3, H, W), as the network sees it: x_hat, z and the expected deviation, (C, H, W) float32, in
    grey levels and the order of coding."""
    if k < 1:
        raise DamagedFile("the lossless part is damaged: nothing is known of its pixels")
    level, gamma = setting.plan.stops[k], setting.plan.gammas[k]
    x_hat, m = denoise(setting.model, setting.tables, level, z[None])
    x_hat = mirrored_x_hat(setting.model, setting.tables, level, z[None]).add_(x_hat).div_(2)
    s = float(exp(gamma))  # sigma^2 / alpha^2
    seen = z[None] * float(np.sqrt(1 + s))
    if setting.grey:
        x_hat, seen, m = mean_of_colours(x_hat), mean_of_colours(seen), over(m.sum(1, keepdim=True), 9)
    std = sqrt_(m.mul_(s)).mul_(UNIT_LEVELS).float()
    return in_order(x_hat.add_(1).mul_(UNIT_LEVELS)), in_order(seen.add_(1).mul_(UNIT_LEVELS)), in_order(std)


def in_order(values: torch.Tensor) -> np.ndarray:
    """(1, C, H, W) -> (C, H, W), in the order of coding."""
    order = list(ORDER) if values.shape[1] == 3 else [0]
    return values[0].clamp(-LARGEST, LARGEST)[order].cpu().numpy()


def padded(values: np.ndarray) -> np.ndarray:
    return np.pad(values, ((0, 0), (PAD, PAD), (PAD, PAD)), "edge")


def in_units(believed: Sequence[np.ndarray], step: int, planes: np.ndarray) -> Picture:
    """Planes (C, H, W) uint8 and what is believed of them (``belief_of``), in units of ``step`` grey levels."""
    belief, seen, std = (v / np.float32(step) for v in believed)
    return Picture(planes, padded(belief), padded(seen), std)


def written(picture: Picture, rows: int) -> Iterator[bytes]:
    """The bits of so many rows at a time; the next are foreseen meanwhile."""
    colours, height, width = picture.pixels.shape
    learner, mixer = learner_of(colours, width), mixer_of(values_of(), colours, picture.pixels.size)
    notes = [values_of(colours * rows * width) for _ in range(2)]
    coder, room = np.array([0, 0xFFFFFFFF, 0, 0], np.int64), np.empty(MOST * rows * width + 8, np.uint8)
    tape = Tape(False, coder, room, *tables())
    ends = [(top, min(top + rows, height)) for top in range(0, height, rows)]
    with ThreadPoolExecutor(1) as ahead:
        coming = ahead.submit(foresee, ends[0], picture, learner, notes[0])
        for n, part in enumerate(ends):
            coming.result()
            if n + 1 < len(ends):
                coming = ahead.submit(foresee, ends[n + 1], picture, learner, notes[(n + 1) % 2])
            coder[3] = 0
            write(part, picture.pixels, notes[n % 2], mixer, tape)
            yield room[: coder[3]].tobytes()
    yield int(coder[1] >> 16).to_bytes(2, "big")  # where in the last range the value lies


def filled_in(picture: Picture, data: bytes, rows: int) -> Iterator[bool]:
    """So many rows at a time, from their bits; whether all of these are there."""
    colours, height, width = picture.pixels.shape
    learner = learner_of(colours, width)
    mixer = mixer_of(learner.value, colours, picture.pixels.size)
    start = int.from_bytes((data + bytes(4))[:4], "big")
    coder = np.array([0, 0xFFFFFFFF, start, 4], np.int64)
    tape = Tape(True, coder, np.frombuffer(bytearray(data), np.uint8), *tables())
    for top in range(0, height, rows):
        read((top, min(top + rows, height)), picture, learner, mixer, tape)
        yield bool(coder[3] <= len(data))


def planes_of(x: np.ndarray) -> np.ndarray:
    """(H, W, 3) or (H, W) -> (C, H, W), in the order of coding."""
    return np.ascontiguousarray(x[..., list(ORDER)].transpose(2, 0, 1) if x.ndim == 3 else x[None])


def picture_of(planes: np.ndarray) -> np.ndarray:
    """The inverse."""
    if len(planes) == 1:
        return planes[0]
    return np.ascontiguousarray(planes[np.argsort(ORDER)].transpose(1, 2, 0))


def encode(setting: Setting, k: int, z: torch.Tensor, x: np.ndarray) -> bytes:
    """The part for one picture: z (3, H, W) after k steps, as the network sees it, x (H, W, 3) or (H, W) uint8."""
    step, rows = step_of(x), min(len(x), max(1, CHUNK // x.shape[1]))
    picture = in_units(belief_of(setting, k, z), step, in_steps(planes_of(x), step))
    return zlib.crc32(x.tobytes()).to_bytes(4, "big") + bytes([step]) + b"".join(written(picture, rows))


def decode(setting: Setting, k: int, z: torch.Tensor, data: bytes) -> np.ndarray:
    """The picture, uint8 (H, W, 3) or (H, W). DamagedFile if it is not the one that was encoded."""
    if len(data) < START or data[4] == 0:
        raise DamagedFile("the lossless part is damaged")
    planes = np.zeros((1 if setting.grey else 3, *setting.size), np.uint8)
    for _ in filled_in(in_units(belief_of(setting, k, z), data[4], planes), data[START:], len(planes[0])):
        pass
    x = picture_of(from_steps(planes, data[4]))
    if zlib.crc32(x.tobytes()) != int.from_bytes(data[:4], "big"):
        raise DamagedFile("the pixels do not come out as they went in (checksum)")
    return x


def first_rows(setting: Setting, k: int, z: torch.Tensor, data: bytes) -> np.ndarray:
    """Those rows, uint8 (R, W, 3) or (R, W), that the beginning of a part says."""
    planes = np.zeros((1 if setting.grey else 3, *setting.size), np.uint8)
    known, step = 0, data[4] if len(data) >= START else 0
    if step:
        for there in filled_in(in_units(belief_of(setting, k, z), step, planes), data[START:], 1):
            if not there:
                break
            known += 1
    return picture_of(from_steps(planes, step))[:known]
