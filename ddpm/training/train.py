"""Training: the loop, on a loss of losses.py.

It can be stopped and resumed at any moment, and what a step draws depends on its number alone: with a schedule
over images, a run that was stopped ends as one that was not. See runs.py for what lies in its folder. Under
``torchrun`` every process takes its share of the batch.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import _foreach_lerp_ as foreach_lerp_  # pyright: ignore[reportPrivateImportUsage]  # as torch's optimizers do
from tqdm import tqdm

from ddpm.diffusion.likelihood import to_unit
from ddpm.files import new_folder, replace
from ddpm.images import lists
from ddpm.models import runs
from ddpm.models.model import DDPM

from .crops import Crops, crops_for
from .distributed import join
from .losses import loss_for
from .optimizer import Optimizer
from .resume import settled
from .settings import TrainConfig, to_json
from .signals import Stop

DEFAULT_MINUTES = 60.0
SAVE_EVERY = 120.0  # seconds


class Run:
    """A training run in a folder, see runs.py. ``seconds`` are those of training, ``span`` where its schedule ends.

    The clock of each call starts when every kind of batch has had its first step, with what compiling takes.
    """

    def __init__(self, config: TrainConfig, folder: str | Path, device="cpu"):
        self.config, self.folder, self.device = config, Path(folder), torch.device(device)
        self.rank, self.world = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
        torch.manual_seed(config.seed)
        try:
            self.model = DDPM(config.model).placed(self.device)
        except (KeyError, TypeError, ValueError, RuntimeError) as e:
            raise ValueError(f"model: no network can be made of these settings: {e}") from None
        if config.init:
            self.start_from(config.init)
        self.average = {k: v.detach().clone() for k, v in self.model.state_dict().items()}
        self.optimizer = Optimizer(self.model, config.lr, config.betas, config.weight_decay, config.muon)
        self.steps, self.images, self.seconds, self.span = 0, 0, 0.0, 60 * (config.decay_minutes or 0.0)
        if clock := runs.clock(self.folder):
            self.load(clock)

    def start_from(self, init: str) -> None:
        """Take over every weight that the network has by the same name and shape; ValueError if that is not most."""
        try:
            weights = load_file(init)
        except SafetensorError as e:
            raise ValueError(f"{init}: {e}") from None
        own = self.model.state_dict()
        common = {k: v.float() for k, v in weights.items() if k in own and own[k].shape == v.shape}
        if 2 * len(common) < len(own):
            raise ValueError(f"only {len(common)} of {len(own)} weights of the network are in {init}")
        self.model.load_state_dict(common, strict=False)

    def progress(self) -> float:
        """Share of the learning-rate schedule that is done, 0 to 1."""
        if self.config.decay_images:
            return min(1.0, self.images / self.config.decay_images)
        return min(1.0, self.seconds / self.span) if self.span else 0.0

    def learning_rate(self) -> float:
        c = self.config
        decay = c.final_lr + (1 - c.final_lr) * 0.5 * (1 + math.cos(math.pi * self.progress()))
        return c.lr * min(1.0, (self.steps + 1) / c.warmup) * decay

    def save(self) -> None:
        """Everything needed to go on in one file, replaced whole; the averaged weights once more on their own."""
        if self.rank:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        tensors = {f"model.{k}": v for k, v in self.model.state_dict().items()}
        tensors |= {f"average.{k}": v for k, v in self.average.items()}
        tensors |= {f"optimizer.{k}": v for k, v in self.optimizer.moments().items()}
        tensors = {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}
        clock = {"steps": self.steps, "images": self.images, "seconds": self.seconds, "span": self.span}
        replace(self.folder / runs.SETTINGS, lambda p: p.write_text(to_json(self.config)))
        replace(self.folder / runs.STATE, lambda p: save_file(tensors, p, {"clock": json.dumps(clock)}))
        self.save_average()
        (self.folder / runs.CLOCK).unlink(missing_ok=True)

    def save_average(self) -> None:
        tensors = {k: v.cpu().contiguous().clone() for k, v in self.average.items()}
        replace(self.folder / runs.AVERAGE, lambda p: save_file(tensors, p))

    def load(self, clock: dict) -> None:
        try:
            tensors = load_file(self.folder / runs.STATE, device=str(self.device))
            part = lambda name: {k.removeprefix(name): v for k, v in tensors.items() if k.startswith(name)}  # noqa: E731
            self.model.load_state_dict(part("model."))
            for k, v in part("average.").items():
                self.average[k].copy_(v)
            self.optimizer.restore(part("optimizer."))
        except (SafetensorError, RuntimeError, KeyError, IndexError) as e:
            raise ValueError(f"{self.folder}: its state and settings disagree: {str(e).splitlines()[0]}") from None
        self.steps, self.images, self.seconds = clock["steps"], clock["images"], clock["seconds"]
        self.span = 60 * self.config.decay_minutes if self.config.decay_minutes else clock["span"]

    def plan(self, minutes: float | None) -> float:
        """Settle where the schedule ends and return the seconds of training that this call may take.

        Without ``decay_minutes`` or ``decay_images`` the schedule ends with the call; ``minutes`` None: where it was
        meant to end, or after DEFAULT_MINUTES for a new run.
        """
        fixed = self.config.decay_images or self.config.decay_minutes
        if minutes is None:
            if not self.span and not fixed:
                self.span = self.seconds + 60 * DEFAULT_MINUTES
            return math.inf
        if not fixed:
            self.span = self.seconds + 60 * minutes
        return 60 * minutes

    def fit(
        self,
        crops: list[Crops],
        minutes: float | None = None,
        quiet: bool = False,
        every: float = 20.0,
        stop: Stop | None = None,
    ) -> None:
        """Train for ``minutes`` or to the end of the schedule, logging every ``every`` seconds; see ``plan``.

        Once there is something to save, a signal that ``stop`` keeps ends the loop after the step at hand.
        """
        limit, stop = self.plan(minutes), stop or Stop()
        if self.progress() >= 1:
            if self.rank == 0:  # the last save may have been killed before it came to this
                self.save_average()
            return
        with new_folder(self.folder):
            self._fit(crops, limit, quiet, every, stop)

    def _fit(self, crops, limit, quiet, every, stop):
        rows = runs.log(self.folder)
        take, begun = Stepper(self, crops), self.progress()
        bar = tqdm(total=100, disable=True if quiet or self.rank else None, unit="%", desc="first step")
        for _ in crops:
            if self.progress() < 1:
                take()
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        bar.set_description("train")
        stop.patient = True
        if self.rank == 0:  # what the log has of steps that were not saved is taken again
            replace(self.folder / runs.LOG, lambda p: p.write_text("".join(json.dumps(row) + "\n" for row in rows)))
        self.save()
        start, clock0 = time.monotonic(), self.seconds
        logged, saved, sums, count, images = start, start, {}, 0, self.images

        def record(seconds, images):
            row = {"steps": self.steps, "images": self.images, "seconds": round(self.seconds, 1)}
            row |= {"lr": round(self.learning_rate(), 7)} | {k: round(float(v) / count, 5) for k, v in sums.items()}
            row["images_per_s"] = round((self.images - images) / max(seconds, 1e-9), 1)
            if self.rank == 0:
                with (self.folder / runs.LOG).open("a") as f:
                    f.write(json.dumps(row) + "\n")
            bar.set_postfix(row, refresh=False)

        stopped = False
        while not stopped and self.progress() < 1 and self.seconds - clock0 < limit:
            for k, v in take().items():
                sums[k] = sums.get(k, 0) + v
            count += 1
            now = time.monotonic()
            self.seconds, stopped = self.agreed(clock0 + now - start, stop.number is not None)
            share = max((self.seconds - clock0) / limit, (self.progress() - begun) / (1 - begun))
            bar.update(round(100 * min(share, 1), 1) - bar.n)
            if now - logged >= every:
                record(now - logged, images)
                logged, sums, count, images = now, {}, 0, self.images
            if now - saved >= SAVE_EVERY:
                self.save()
                saved = now
        if count:
            record(time.monotonic() - logged, images)
        self.save()
        bar.close()

    def agreed(self, seconds: float, stopped: bool) -> tuple[float, bool]:
        """The clock, and whether to stop: of many processes the furthest, so that all take the same steps."""
        if self.world == 1:
            return seconds, stopped
        both = torch.tensor([seconds, float(stopped)], dtype=torch.float64)
        dist.all_reduce(both, dist.ReduceOp.MAX)
        return both[0].item(), bool(both[1])


class Stepper:
    """Takes one step of a run after the other; ``net`` is its network, compiled if the settings say so."""

    def __init__(self, run: Run, crops: list[Crops]):
        self.run, self.crops, config = run, crops, run.config
        self.loss_of = loss_for(config, run.model.schedule)
        compiled = run.device.type == "cuda" if config.compile is None else config.compile
        self.net = torch.compile(run.model, dynamic=False) if compiled else run.model
        if run.world > 1:
            self.net = torch.nn.parallel.DistributedDataParallel(self.net)
        self.generator = torch.Generator(run.device)
        self.parameters = list(run.model.parameters())
        self.weights = list(run.model.state_dict().values())
        self.batches = [max(1, config.batch * crops[0].size ** 2 // c.size**2 // run.world) for c in crops]

    def __call__(self) -> dict[str, torch.Tensor]:
        """One step of the optimizer and of the average: the terms of the loss, and the norm of the gradient."""
        run, config = self.run, self.run.config
        turn = run.steps % len(self.crops)
        batch = self.batches[turn]
        self.generator.manual_seed(seed_of(config.seed, run.rank, run.steps, 0))
        torch.manual_seed(seed_of(config.seed, run.rank, run.steps, 1))  # of dropout
        x = to_unit(self.crops[turn].sample(batch, self.generator)).contiguous(memory_format=torch.channels_last)
        with torch.autocast(run.device.type, torch.bfloat16, enabled=config.autocast):
            loss, terms = self.loss_of(self.net, x, self.generator)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, config.clip)
        run.optimizer.step(run.learning_rate())
        run.steps += 1
        run.images += batch * run.world
        decay = min(config.ema, (1 + run.steps) / (10 + run.steps))
        with torch.no_grad():
            foreach_lerp_(list(run.average.values()), self.weights, 1 - decay)
        return {k: v.detach() for k, v in {**terms, "grad_norm": norm}.items()}


def seed_of(*numbers: int) -> int:
    """One that has nothing to do with those of other numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))


def train(
    folder: str | Path,
    data: Sequence[str] = (),
    preset: str | None = None,
    minutes: float | None = None,
    changes: dict | None = None,
    *,
    note: str | None = None,
    device: str = "cpu",
    quiet: bool = False,
    stop: Stop | None = None,
    skip_bad: bool = False,
) -> Run:
    """Start the run in ``folder`` or go on with it; with ``torchrun``'s environment, one process of many.

    See ``resume.settled`` for what a run keeps, ``Run.plan`` for how long it goes on. ValueError and OSError for what
    cannot be.
    """
    if minutes is not None and not 0 < minutes < math.inf:
        raise ValueError(f"{minutes:g} minutes are no time to train for")
    workers = join(device)
    config = settled(folder, preset, data, changes or {})
    images, found = lists.read(config.data, config.tile, config.exclude, skip_bad)
    if config.lists and not lists.same(config.lists["used"], found["used"]):
        now, before = (lists.named(listed["used"]) for listed in (found, config.lists))
        raise ValueError(f"{folder} holds a run on other pictures: {before}, not {now}")
    config.lists = found
    if note is not None:
        config.notes = {**config.notes, "note": note}
    run = Run(config, folder, workers.device)
    run.fit(crops_for(config, run.device, images), minutes, quiet, stop=stop)
    return run
