"""The work whose speed is measured: pictures encoded and decoded, their bound, and steps of training.

A job does its work once when it is called, always the same; ``watch`` tells a watch which functions belong to which
part of it. The channel is the trellis with its shared randomness, the entropy coder the lossless part without the
network; what a pool of threads does counts as a whole to the part that waits for it.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable

import numpy as np
import torch

from codec import Codec, Target
from codec.channel import simulation
from codec.images.pictures import read_picture
from codec.lossless import adaptive
from codec.lossless import pixels as lossless
from ddpm.diffusion.bound import bound, own_steps, terms_for
from ddpm.diffusion.reverse import Reverse
from ddpm.exact.convolution import Float32, Float64, Int8, fastest
from ddpm.images.data import cut_sheet
from ddpm.models.model import DDPM
from ddpm.training.crops import crops_for
from ddpm.training.presets import PRESETS, preset_config
from ddpm.training.train import Run, Stepper

from .photograph import BOX, PICTURE, sized
from .watch import Watch

TERMS = 4  # of the bound, as ``ddpm-codec bpd`` draws them unless told otherwise


def pictures(size: int, batch: int) -> np.ndarray:
    """(B, size, size, 3) uint8: neighbouring squares of a part of a photograph that goes on by reflection."""
    left, top, right, bottom = BOX
    across = math.ceil(math.sqrt(batch))
    return cut_sheet(sized(read_picture(PICTURE)[top:bottom, left:right], (across * size) ** 2), size)[:batch]


class Job:
    """What is said of it in its row: ``what``, ``size``, ``batch``, ``arithmetic``, ``more``."""

    training = False

    def __init__(self, model: torch.nn.Module, size: int, batch: int, dtype: torch.dtype, **more):
        self.model, self.size, self.batch, self.dtype, self.more = model, size, batch, dtype, more

    @property
    def arithmetic(self) -> str:
        """Of sums of products: those of bytes, in integers; or of integers, in floats."""
        return str(self.dtype).removeprefix("torch.")

    def watch(self, watch: Watch, evaluated: Callable[[torch.Tensor], None]) -> None:
        """``evaluated`` is told of all z at which the network is evaluated."""
        of_ours = getattr(type(self.model), "maps", None) is DDPM.maps  # which else calls ``forward``
        for name in ("forward", "maps") if of_ours else ("forward",):
            watch.over(type(self.model), name, "network", note=lambda _, z, *__: evaluated(z))
        watch_transfers(watch)


class Encode(Job):
    """Lossy files of ``rate`` bits/dim, or lossless ones for rate 0."""

    what = "encode"

    def __init__(self, model: DDPM, size: int, batch: int, rate: float):
        super().__init__(model, size, batch, fastest(torch.device("cpu")).dtype, rate=rate)
        self.codec, self.pictures = Codec(model), list(pictures(size, batch))
        self.target = Target(bits_per_dim=rate) if rate else Target(lossless=True)
        self.files: list[bytes] = []

    def __call__(self):
        self.files = [file.data for file in self.codec.encode(self.pictures, self.target, store=False)]

    def watch(self, watch, evaluated):
        super().watch(watch, evaluated)
        for kind in (Int8, Float32, Float64):
            watch.over(kind, "__call__", "convolutions")
        for name in ("encode", "decode"):
            watch.over(simulation.TrellisUse, name, "channel")
        watch.over(simulation.TrellisUse, "__init__", "channel")  # which makes the shared randomness
        for name in ("encode", "decode"):
            for module in (lossless, adaptive):
                watch.over(module, name, "entropy")


class Decode(Encode):
    """The files of an Encode, made the first time they are asked for."""

    what = "decode"

    def __init__(self, source: Encode):
        Job.__init__(self, source.model, source.size, source.batch, source.dtype, **source.more)
        self.source = source

    def __call__(self):
        if not self.source.files:
            self.source()
        self.source.codec.decode(self.source.files)


class Bpd(Job):
    """The bound, from TERMS terms of each picture and L_0."""

    what = "bpd"

    def __init__(self, model: torch.nn.Module, size: int, batch: int, bf16: bool):
        super().__init__(model, size, batch, torch.bfloat16 if bf16 else torch.float32, terms=TERMS)
        self.terms = terms_for(Reverse(model, autocast=bf16), own_steps(model))
        self.x = torch.from_numpy(pictures(size, batch)).permute(0, 3, 1, 2)

    def __call__(self):
        bound(self.terms, [self.x], samples=TERMS, quiet=True)


class Train(Job):
    """A step of training with the settings of a preset, at its own crop and batch, from new weights."""

    what, training = "train", True

    def __init__(self, preset: str, device: torch.device, compiled: bool):
        config = preset_config(preset, [str(PICTURE)], {"compile": compiled})
        config.crop = np.atleast_1d(config.crop)[0].item()
        with tempfile.TemporaryDirectory() as folder:  # nothing lies there, and nothing is written by steps
            run = Run(config, folder, device)
        dtype = torch.bfloat16 if config.autocast else torch.float32
        super().__init__(run.model, config.crop, config.batch, dtype, compiled=compiled)
        self.step = Stepper(run, crops_for(config, device))

    def __call__(self):
        self.step()

    def watch(self, watch, evaluated):
        watch.over(self.step, "net", "network", note=lambda z, *_: evaluated(z))
        watch.over(torch.Tensor, "backward", "network")
        watch_transfers(watch)


def watch_transfers(watch: Watch) -> None:
    """Tensors that go to another device. Single numbers that Python asks for count to who asks."""
    watch.over(torch.Tensor, "to", "transfers", when=moves)
    watch.over(torch.Tensor, "cpu", "transfers", when=lambda tensor, **_: tensor.device.type != "cpu")


def moves(tensor: torch.Tensor, *args, **how) -> bool:
    """Whether ``Tensor.to`` with these arguments goes to another device."""
    to = how.get("device", args[0] if args else None)
    to = to.device if isinstance(to, torch.Tensor) else torch.device(to) if isinstance(to, str) else to
    return isinstance(to, torch.device) and to.type != tensor.device.type


def preset_of(model_name: str, device: torch.device) -> str | None:
    """The preset that suits a line of models and a device: ``photo`` of ``photo-10`` on a CPU, else ``photo-gpu``."""
    line = (model_name.rpartition("-")[0] or model_name) + "-gpu" * (device.type == "cuda")
    return line if line in PRESETS else None
