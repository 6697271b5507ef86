"""Training: one visible list of settings, one loss that reads like the bound, one loop.

The loop can be stopped and resumed at any moment. Its whole state (weights, average, optimizer, clock) lies in one
folder as safetensors and JSON; its log is a file of JSON lines. Under ``torchrun`` every process takes its share of
the batch.
"""

from __future__ import annotations

import json
import math
import os
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file
from tqdm import tqdm

from .data import Crops, load_images
from .distributed import join
from .likelihood import discretized_gaussian_nats, to_unit
from .model import DDPM
from .optimizer import Optimizer
from .schedule import LinearBeta

LN2 = math.log(2)


@dataclass
class TrainConfig:
    model: dict  # {"schedule": ..., "network": ...}
    data: list[str]  # sources for data.load_images
    tile: int | None = None  # the sources are contact sheets of squares of this side
    crop: int | tuple[int, ...] = 32  # or of several sizes in turn, every batch of about the same number of pixels
    scales: tuple[int, ...] = (1,)  # box-mean reductions of the pictures
    scale_weights: tuple[float, ...] | None = None
    drawn: float = 0.0  # share of crops that are plain colours and rectangles
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
    decay_minutes: float = 60.0  # the learning rate falls as a cosine over so much training time
    decay_images: int = 0  # or, if set, over so many images
    final_lr: float = 0.01  # of lr
    seed: int = 0
    compile: bool = True
    bf16: bool = True
    init: str | None = None  # weights to start from (safetensors), as far as the networks agree
    notes: dict = field(default_factory=dict)


class Bound:
    """Bits/dim of the continuous-time bound, one sample per image; L_0 on the first images of the batch.

    With gamma uniform in [gamma_min, gamma_max], L = (gamma_max - gamma_min)/2 E|eps - eps_hat|^2 + L_0 (nats); m is
    fitted to the squared error by its own Gaussian likelihood, whose minimum is the conditional mean.
    """

    def __init__(self, config: TrainConfig, schedule):
        self.config, self.schedule = config, schedule

    def gammas(self, n: int, u: torch.Tensor, device) -> torch.Tensor:
        """(n,) levels: one random offset and equal spacing (Kingma et al. 2021, appendix I.1)."""
        t = (u + torch.arange(n, device=device) / n) % 1
        return self.schedule.gamma_min + t * (self.schedule.gamma_max - self.schedule.gamma_min)

    def __call__(self, model, x, generator):
        n0 = max(1, round(self.config.decoder_share * len(x)))
        u = torch.rand(1, generator=generator, device=x.device)
        gamma = self.gammas(len(x) - n0, u, x.device)
        gamma = torch.cat([torch.full((n0,), self.schedule.gamma_min, device=x.device), gamma]).float()
        eps_hat, log_m, z, eps = noised(model, x, gamma, generator)
        sigma, alpha = (torch.sigmoid(s * gamma).sqrt()[:n0, None, None, None] for s in (1, -1))
        x_hat = (z[:n0] - sigma * eps_hat[:n0]) / alpha
        log_std = 0.5 * log_m[:n0] + (sigma / alpha).log()
        l0 = discretized_gaussian_nats(x[:n0], x_hat, log_std).mean() / LN2
        error = (eps - eps_hat)[n0:] ** 2
        weight = (self.schedule.gamma_max - self.schedule.gamma_min) / 2
        diffusion = weight * error.mean() / LN2
        # Early terms are a small part of the bound, but all of a short file: focus weighs by the expected error.
        expected = log_m[n0:].detach().exp().mean((1, 2, 3), keepdim=True)
        emphasis = (expected.mean() / expected) ** self.config.focus
        focused = weight * (emphasis * error).mean() / LN2
        variance = 0.5 * (log_m[n0:] + error.detach() * torch.exp(-log_m[n0:])).mean() / LN2
        loss = focused + l0 + self.config.variance_weight * variance
        return loss, {"bits_per_dim": diffusion + l0, "diffusion": diffusion, "l0": l0, "variance_nll": variance}


class Simple(Bound):
    """The paper's L_simple (eq. 14): E|eps - eps_hat|^2 over its T levels; m and L_0 fitted beside it."""

    def __init__(self, config, schedule):
        super().__init__(config, schedule)
        levels = schedule.all_gammas() if isinstance(schedule, LinearBeta) else schedule.gammas(999)
        self.levels = torch.tensor(levels, dtype=torch.float32)

    def __call__(self, model, x, generator):
        index = torch.randint(len(self.levels), (len(x),), generator=generator, device=x.device)
        gamma = self.levels.to(x.device)[index]
        eps_hat, log_m, _, eps = noised(model, x, gamma, generator)
        error = (eps - eps_hat) ** 2
        variance = 0.5 * (log_m + error.detach() * torch.exp(-log_m)).mean()
        return error.mean() + self.config.variance_weight * variance, {"mse": error.mean(), "variance_nll": variance}


OBJECTIVES = {"bound": Bound, "simple": Simple}


def noised(model, x, gamma, generator):
    """z ~ q(z | x) at gamma (B,) and the network's answer, float32: eps_hat, log m, z, eps."""
    eps = torch.randn(x.shape, generator=generator, device=x.device)
    g = gamma[:, None, None, None]
    z = torch.sigmoid(-g).sqrt() * x + torch.sigmoid(g).sqrt() * eps
    eps_hat, log_m = model(z.contiguous(memory_format=torch.channels_last), gamma)
    return eps_hat.float(), log_m.float(), z, eps


class Run:
    """A training run in a folder: state.safetensors, state.json, config.json, log.jsonl, model.safetensors."""

    def __init__(self, config: TrainConfig, folder: str | Path, device="cpu"):
        self.config, self.folder, self.device = config, Path(folder), torch.device(device)
        self.rank, self.world = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
        torch.manual_seed(config.seed)
        self.model = DDPM(config.model).to(self.device, memory_format=torch.channels_last)
        if config.init:
            self.start_from(load_file(config.init))
        self.average = {k: v.detach().clone() for k, v in self.model.state_dict().items()}
        self.optimizer = Optimizer(self.model, config.lr, config.betas, config.weight_decay, config.muon)
        self.steps, self.images, self.seconds = 0, 0, 0.0
        if (self.folder / "state.json").exists():
            self.load()

    def start_from(self, weights: dict[str, torch.Tensor]) -> None:
        """Take over every weight that the network has by the same name and shape; ValueError if that is not most."""
        own = self.model.state_dict()
        common = {k: v.float() for k, v in weights.items() if k in own and own[k].shape == v.shape}
        if 2 * len(common) < len(own):
            raise ValueError(f"only {len(common)} of {len(own)} weights of the network are in {self.config.init}")
        self.model.load_state_dict(common, strict=False)

    def progress(self) -> float:
        """Share of the learning-rate schedule that is done, 0 to 1."""
        if self.config.decay_images:
            return min(1.0, self.images / self.config.decay_images)
        return min(1.0, self.seconds / (60 * self.config.decay_minutes))

    def learning_rate(self) -> float:
        c = self.config
        decay = c.final_lr + (1 - c.final_lr) * 0.5 * (1 + math.cos(math.pi * self.progress()))
        return c.lr * min(1.0, (self.steps + 1) / c.warmup) * decay

    def save(self) -> None:
        """Everything needed to go on, each file replaced whole; the averaged weights once more on their own."""
        if self.rank:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        tensors = {f"model.{k}": v for k, v in self.model.state_dict().items()}
        tensors |= {f"average.{k}": v for k, v in self.average.items()}
        tensors |= {f"optimizer.{k}": v for k, v in self.optimizer.moments().items()}
        tensors = {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}
        clock = {"steps": self.steps, "images": self.images, "seconds": self.seconds}
        replace(self.folder / "state.safetensors", lambda p: save_file(tensors, p))
        replace(self.folder / "state.json", lambda p: p.write_text(json.dumps(clock)))
        replace(self.folder / "config.json", lambda p: p.write_text(json.dumps(asdict(self.config), indent=1)))
        average = {k.removeprefix("average."): v for k, v in tensors.items() if k.startswith("average.")}
        replace(self.folder / "model.safetensors", lambda p: save_file(average, p))

    def load(self) -> None:
        tensors = load_file(self.folder / "state.safetensors", device=str(self.device))
        clock = json.loads((self.folder / "state.json").read_text())
        self.steps, self.images, self.seconds = clock["steps"], clock["images"], clock["seconds"]
        part = lambda name: {k.removeprefix(name): v for k, v in tensors.items() if k.startswith(name)}  # noqa: E731
        self.model.load_state_dict(part("model."))
        for k, v in part("average.").items():
            self.average[k].copy_(v)
        self.optimizer.restore(part("optimizer."))

    def fit(self, crops: list[Crops], minutes: float, quiet: bool = False, every: float = 20.0) -> None:
        """Train for ``minutes`` of wall time or to the end of the schedule, logging every ``every`` seconds."""
        take = Stepper(self, crops)
        self.folder.mkdir(parents=True, exist_ok=True)
        start, clock0 = time.monotonic(), self.seconds
        logged, saved, sums, count, images = start, start, {}, 0, self.images
        bar = tqdm(total=100, disable=True if quiet or self.rank else None, unit="%", desc="train")

        def record(seconds, images):
            row = {"steps": self.steps, "images": self.images, "seconds": round(self.seconds, 1)}
            row |= {"lr": round(self.learning_rate(), 7)} | {k: round(float(v) / count, 5) for k, v in sums.items()}
            row["images_per_s"] = round((self.images - images) / seconds, 1)
            if self.rank == 0:
                with (self.folder / "log.jsonl").open("a") as f:
                    f.write(json.dumps(row) + "\n")
            bar.n = round(100 * self.progress(), 1)
            bar.set_postfix(row)

        while self.progress() < 1 and time.monotonic() - start < 60 * minutes:
            for k, v in take().items():
                sums[k] = sums.get(k, 0) + v
            count += 1
            now = time.monotonic()
            self.seconds = clock0 + now - start
            if now - logged >= every:
                record(now - logged, images)
                logged, sums, count, images = now, {}, 0, self.images
            if now - saved >= 120:
                self.save()
                saved = now
        if count:
            record(time.monotonic() - logged, images)
        self.save()
        bar.close()


class Stepper:
    """Takes one step of a run after the other; ``net`` is its network, compiled if the settings say so."""

    def __init__(self, run: Run, crops: list[Crops]):
        self.run, self.crops, config = run, crops, run.config
        self.loss_of = OBJECTIVES[config.objective](config, run.model.schedule)
        self.net = torch.compile(run.model, dynamic=False) if config.compile else run.model
        if run.world > 1:
            self.net = torch.nn.parallel.DistributedDataParallel(self.net)
        self.generator = torch.Generator(run.device).manual_seed(config.seed + 1000003 * run.rank + run.steps)
        self.parameters = list(run.model.parameters())
        self.weights = list(run.model.state_dict().values())
        self.batches = [max(1, config.batch * crops[0].size ** 2 // c.size**2 // run.world) for c in crops]

    def __call__(self) -> dict[str, torch.Tensor]:
        """One step of the optimizer and of the average: the terms of the loss, and the norm of the gradient."""
        run, config = self.run, self.run.config
        turn = run.steps % len(self.crops)
        batch = self.batches[turn]
        x = to_unit(self.crops[turn].sample(batch, self.generator)).contiguous(memory_format=torch.channels_last)
        with torch.autocast(run.device.type, torch.bfloat16, enabled=config.bf16):
            loss, terms = self.loss_of(self.net, x, self.generator)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, config.clip)
        run.optimizer.step(run.learning_rate())
        run.steps += 1
        run.images += batch * run.world
        decay = min(config.ema, (1 + run.steps) / (10 + run.steps))
        with torch.no_grad():
            torch._foreach_lerp_(list(run.average.values()), self.weights, 1 - decay)
        return {k: v.detach() for k, v in {**terms, "grad_norm": norm}.items()}


def replace(path: Path, write) -> None:
    """Write through a temporary file beside ``path``, so that a reader or a crash never meets half a file."""
    temporary = path.with_name(path.name + ".tmp")
    write(temporary)
    os.replace(temporary, path)


def crops_for(config: TrainConfig, device, skip_bad=False) -> list[Crops]:
    """One for each size. The first must find pictures at all scales; for others, scales without any are left out."""
    images = load_images(config.data, config.tile, config.exclude, skip_bad=skip_bad)
    largest = max(min(im.shape[:2]) for im in images)
    first, *others = (config.crop,) if isinstance(config.crop, int) else config.crop
    weights = dict(zip(config.scales, config.scale_weights or [1.0] * len(config.scales)))
    found = [Crops(images, first, config.scales, list(weights.values()), device, config.drawn)]
    for size in others:
        fit = [scale for scale in config.scales if largest // scale >= size]
        found.append(Crops(images, size, fit, [weights[scale] for scale in fit], device, config.drawn))
    return found


def train(config: TrainConfig, folder, minutes: float, device="cpu", quiet=False, skip_bad=False) -> Run:
    """Start or resume the run in ``folder`` for ``minutes``; with ``torchrun``'s environment, one process of many."""
    workers = join(device)
    run = Run(config, folder, workers.device)
    run.fit(crops_for(config, run.device, skip_bad), minutes, quiet)
    return run
