"""The settings of a training run, all in one list."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from typing import get_args, get_type_hints


@dataclass
class TrainConfig:
    model: dict  # {"schedule": ..., "network": ...}
    data: list[str]  # sources for data.load_images
    preset: str | None = None  # where the settings came from
    tile: int | None = None  # the sources are contact sheets of squares of this side
    crop: int | tuple[int, ...] = 32  # or of several sizes in turn, every batch of about the same number of pixels
    scales: tuple[int, ...] = (1,)  # box-mean reductions of the pictures
    scale_weights: tuple[float, ...] | None = None
    drawn: float = 0.0  # share of crops that are plain colours and rectangles
    soft: float = 0.0  # share of crops that are as cameras see at full resolution
    exclude: tuple[str, ...] = ()  # file names kept out of training
    objective: str = "bound"  # or "simple" (Ho et al. 2020, eq. 14)
    batch: int = 48  # crops of the first size
    decoder_share: float = 1 / 8  # of the batch, at gamma_min for L_0
    lr: float = 2e-3
    muon: bool = False  # for the weights of hidden layers; all others by AdamW
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.01
    warmup: int = 200  # optimizer steps
    clip: float = 1.0  # of the gradient norm
    ema: float = 0.999
    focus: float = 0.0  # 0: the bound; 1: the logarithm of each of its terms, and so of short files
    variance_weight: float = 0.05  # of the likelihood of m; its targets are detached
    decay_minutes: float | None = None  # the learning rate falls as a cosine over so much training time in all calls
    # together; None: over that up to the end of the call
    decay_images: int = 0  # or, if set, over so many images
    final_lr: float = 0.01  # of lr
    seed: int = 0
    compile: bool | None = None  # None: on a GPU
    autocast: bool = True
    init: str | None = None  # weights to start from (safetensors), as far as the networks agree
    notes: dict = field(default_factory=dict)
    lists: dict = field(default_factory=dict)  # of the pictures, see lists.read

    def check(self) -> TrainConfig:
        """ValueError for a value of the wrong kind, or out of range."""
        for name, kind in get_type_hints(TrainConfig).items():
            value = getattr(self, name)
            if not suits(value, kind):
                raise ValueError(f"{name} {json.dumps(value)}: a setting of another kind is wanted")
        sizes = (self.crop,) if isinstance(self.crop, int) else self.crop
        wrong = {
            "crop": not sizes or min(sizes) < 1,
            "tile": self.tile is not None and self.tile < 1,
            "scales": not self.scales or min(self.scales) < 1,
            "scale_weights": self.scale_weights
            and not (len(self.scale_weights) == len(self.scales) and min(self.scale_weights) > 0),
            "objective": self.objective not in ("bound", "simple"),
            "batch": self.batch < 1,
            "lr": self.lr <= 0,
            "warmup": self.warmup < 1,
            "clip": self.clip <= 0,
            "betas": not all(0 <= b < 1 for b in self.betas),
            "ema": not 0 <= self.ema < 1,
            "drawn": not 0 <= self.drawn <= 1,
            "soft": not 0 <= self.soft <= 1,
            "decoder_share": not 0 < self.decoder_share < 1,
            "decay_minutes": self.decay_minutes is not None and self.decay_minutes <= 0,
            "decay_images": self.decay_images < 0,
            "final_lr": not 0 <= self.final_lr <= 1,
            "seed": not 0 <= self.seed < 1 << 63,
        }
        for name in (name for name, is_wrong in wrong.items() if is_wrong):
            raise ValueError(f"{name} {json.dumps(getattr(self, name))} is out of range")
        if self.decay_images and self.decay_minutes:
            raise ValueError("the learning rate falls over decay_images or over decay_minutes, not over both")
        return self


def suits(value, kind) -> bool:
    """Whether a value from JSON (where tuples are lists) is of a type annotation."""
    origin, inner = getattr(kind, "__origin__", kind), get_args(kind)
    if origin in (list, tuple):
        ends = inner[-1] is Ellipsis or origin is list
        return (
            isinstance(value, (list, tuple))
            and (ends or len(value) == len(inner))
            and all(suits(v, inner[0]) for v in value)
        )
    if inner:  # a union
        return any(suits(value, k) for k in inner)
    if kind in (int, float):
        number = isinstance(value, (int, float) if kind is float else int) and not isinstance(value, bool)
        return number and math.isfinite(value)
    return isinstance(value, kind)


def as_json(value):
    """As it is when it has been written and read."""
    return json.loads(json.dumps(value))


def to_json(config: TrainConfig) -> str:
    return json.dumps(asdict(config), indent=1) + "\n"
