"""Of a small picture no file that a rate gives is 3% shorter than the one asked for by its PSNR, and reaches it too.

How well each chain goes is drawn here, in place of network and trellis, so that every length can be looked at.
"""

import zlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from codec import Target
from codec.encoder import PIXELS, Encoder
from codec.images.inputs import as_pictures
from codec.images.pictures import MAX_PIXELS
from codec.lossy import progressive
from codec.lossy.progressive import Stream
from codec.lossy.shortest import LUCK
from tests.conftest import smooth_picture
from tests.house import ROOT

RNG = np.random.default_rng(3)
PHOTO = np.asarray(Image.open(ROOT / "bench" / "pictures" / "kodim23-half.png").convert("RGB"))
PICTURES = {
    "smooth, 4x4": smooth_picture(4, 4),
    "noise, 5x6": RNG.integers(0, 256, (6, 5, 3), dtype=np.uint8),
    "smooth, 8x8": smooth_picture(8, 8),
    "photograph, 8x8": PHOTO[100:108, 60:68],
    "noise, 9x9": RNG.integers(0, 256, (9, 9, 3), dtype=np.uint8),
    "grey, 12x10": smooth_picture(10, 12, channels=1),
    "photograph, 12x12": PHOTO[100:112, 60:72],
}


def drawn(setting, pictures, spending, *, mse, **_):
    """``progressive.encode`` of chains whose errors fall by 6 dB for each bit/dim, but for a factor by luck."""
    streams, dims, kl = [], setting.plan.dims, setting.plan.ideal()
    for picture, by, wanted in zip(pictures, spending, mse):
        stream, variance = Stream(z=torch.zeros(picture.shape)), picture.float().var().item() + 1
        for k in range(setting.plan.steps + 1):
            sizes = [len(m) for m in stream.messages]
            luck = np.random.default_rng(zlib.crc32(str(sizes).encode())).uniform(-0.5, 0.5)
            stream.mse.append(variance * 4 ** (-sum(sizes) / dims) * np.exp(luck * LUCK / dims**0.5))
            if k == by.steps or (wanted is not None and stream.mse[-1] <= wanted):
                break
            stream.kl.append(kl[k])
            stream.messages.append(np.zeros(by.bits(k, kl[k]), np.uint8))
        streams.append(stream)
    return streams


@pytest.fixture
def encoder_of(codec, monkeypatch):
    """Of a picture: one whose chains are drawn, and whose exact file is made once."""

    def made(picture):
        setting = codec.setting(picture.shape[:2], picture.ndim == 2)
        encoder = Encoder(setting, as_pictures(picture, False, False, MAX_PIXELS))
        sender, exact = encoder.sender([0]), encoder.lossless_files([0])
        monkeypatch.setattr(encoder, "sender", lambda *_: sender)
        monkeypatch.setattr(encoder, "lossless_files", lambda _: exact)
        monkeypatch.setattr(progressive, "encode", drawn)
        return encoder

    return made


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("smooth, 4x4", (26, 58)),
        ("noise, 5x6", (32,)),
        ("smooth, 8x8", (38, 58)),
        ("photograph, 8x8", (44,)),
        ("noise, 9x9", (26,)),
        ("grey, 12x10", (50,)),
        ("photograph, 12x12", (32,)),
    ],
)
def test_no_rate_gives_a_shorter_file_that_reaches_it(encoder_of, name, wanted):
    encoder = encoder_of(PICTURES[name])
    least, enough = encoder.least(0), encoder.lossless_bits(encoder.sender(), 0, PIXELS)
    for decibels in wanted:
        [file] = encoder.encode(Target(psnr=decibels))
        assert file.psnr >= decibels
        for n in range(int(0.97 * len(file.data)), max(least, int(0.7 * len(file.data))), -1):
            assert encoder.encode(Target(bytes=n))[0].psnr < decibels, n
            if encoder.rungs(0, np.inf) and 8 * (n - least) <= enough:
                break  # shorter ones are never better


def test_an_exact_file_that_is_no_larger_is_taken(encoder_of):
    encoder = encoder_of(PICTURES["smooth, 8x8"])
    [file] = encoder.encode(Target(psnr=66))
    assert file.mode == "lossy"
    [exact] = encoder.lossless_files([0])
    for size in (len(file.data) + 1, len(file.data), len(file.data) - 9):
        exact = replace(exact, data=exact.data[:size])
        encoder.lossless_files = lambda _, exact=exact: [exact]
        assert encoder.encode(Target(psnr=66))[0].mode == ("lossless" if size <= len(file.data) else "lossy")
