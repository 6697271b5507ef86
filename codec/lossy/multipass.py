"""What the encoder does around the chain: spend a budget, feed the starved again, come down on a PSNR from above."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch

from codec.channel.simulation import Channel

from . import progressive
from .plan import Allotment
from .probe import probe
from .progressive import Progress, Stream
from .ratecontrol import Controlled, Fixed, ending_at, ends_for, side_bits, spending_for
from .setting import Setting

STARVED = 1.3  # KL along the chain over bits sent, beyond which a picture is coded again
TRIALS = 8  # files made, at most, on the way to the smallest that reaches a PSNR
CLOSE = 1.01  # ratio of bits of a file that reaches a PSNR to one that does not, where the search ends
NEAR = 1.002  # ratio of mean squared errors, likewise
BELOW = (0.97, 0.955, 0.94, 0.92)  # of the bits of a small file that was found: a shorter one may reach the PSNR too
SMALL = 1 << 15  # bits; the quality of larger files hardly leaps from one to the next
MORE = 1.5  # times as many bits, where all steps together do not reach a PSNR
FULL = 1 << 18  # pixels that go through the chain together


@dataclass(frozen=True)
class Job:
    """One picture's way through the chain with at most ``budget`` bits of payload.

    It ends as soon as its ``mean`` picture is as close as ``mse``, or after ``steps``. free: no table is trusted.
    last: exactly so many steps, each of which says its bits.
    """

    picture: int
    budget: float = math.inf
    mse: float | None = None
    steps: int | None = None
    free: bool = False
    last: int | None = None


@dataclass(frozen=True)
class Sent:
    """One picture's stream and the allotment that a decoder needs to read it."""

    stream: Stream
    allotment: Allotment

    @property
    def mse(self) -> float:
        """Of the ``mean`` picture at the end, squared grey values."""
        return self.stream.mse[-1]

    @property
    def bits(self) -> int:
        """Of messages and corrections."""
        corrections = len(self.allotment.corrections)
        return len(self.stream.bits) + 8 * (corrections + (corrections > 0))

    @property
    def starved(self) -> float:
        """How much more the steps needed than they got."""
        return sum(self.stream.kl) / max(len(self.stream.bits), 1)


Known = dict[Hashable, Sent]


class Sender:
    """Pictures of one size, (B, 3, H, W) uint8, on their way into the code.

    progress: called with 1 after each step of a batch.
    """

    def __init__(self, setting: Setting, pictures: torch.Tensor, channel: type[Channel], progress: Progress | None):
        self.setting, self.plan, self.pictures = setting, setting.plan, pictures
        self.channel, self.progress = channel, progress
        self.cost, self.surplus = probe(setting, pictures), setting.tables.surplus

    def fed(self, jobs: list[Job], known: Known | None = None) -> list[Sent]:
        """A picture whose steps were given too little falls ever further behind; the few there are get another try.

        known: for searches, what has been made before, of which those that come to the same need nothing new.
        """
        sent = self.once(jobs) if known is None else self.new(jobs, known)
        hungry = [j for j, s in enumerate(sent) if s.starved > STARVED and s.stream.kl and self.channel.writes]
        for j, again in zip(hungry, self.once([replace(jobs[j], free=True) for j in hungry])):
            mse = jobs[j].mse
            merit = (lambda s: s.mse) if mse is None else (lambda s, mse=mse: (s.mse > mse, s.bits))
            sent[j] = min(sent[j], again, key=merit)
        return sent

    def new(self, jobs: Sequence[Job], known: Known) -> list[Sent]:
        """As ``once``, but of jobs with the same bits for the same steps only the first is done, and is known then."""
        keys, missing = [], {}
        for job in jobs:
            by = self.spending(job)
            keys.append((job.picture, job.mse, by.profile, by.steps) if isinstance(by, Fixed) else job)
            if keys[-1] not in known:
                missing.setdefault(keys[-1], job)
        known.update(zip(missing, self.once([*missing.values()])))
        return [known[key] for key in keys]

    def spending(self, job: Job) -> Fixed | Controlled:
        """Who spends the job's budget."""
        cost = self.cost[job.picture]
        if job.last is not None:
            return ending_at(self.plan, cost, job.budget, self.surplus, job.last)
        return spending_for(self.plan, cost, job.budget, self.surplus, steps=job.steps, free=job.free)

    def once(self, jobs: Sequence[Job]) -> list[Sent]:
        """One pass through the chain, of as many pictures at once as their pixels allow."""
        at_once = max(1, FULL // self.pictures[0, 0].numel(), len(self.pictures))
        return [sent for i in range(0, len(jobs), at_once) for sent in self._once(jobs[i : i + at_once])]

    def _once(self, jobs: Sequence[Job]) -> list[Sent]:
        spending = [self.spending(job) for job in jobs]
        streams = progressive.encode(
            self.setting,
            self.pictures[[job.picture for job in jobs]],
            spending,
            channel=self.channel,
            mse=[job.mse for job in jobs],
            progress=self.progress,
        )
        out = []
        for job, stream, by in zip(jobs, streams, spending):
            side = partial(side_bits, self.plan, by.profile)
            stream.trim(lambda steps, bits, job=job, side=side: bits + side(steps) <= job.budget)
            steps = len(stream.kl)
            corrections = by.corrections[: Allotment.count_long(self.plan, by.profile, steps)]
            out.append(Sent(stream, Allotment(self.plan, by.profile, steps, corrections)))
        return out

    def best_of_rungs(self, picture: int, rungs: Iterable[float]) -> list[Sent]:
        """For each of some rising budgets the best file of at most so many bits: more bits never show a worse picture.

        Of pictures that the model finds all too simple, a few bits more or less decide by luck which level a file ends
        at, and how well.
        """
        best: list[Sent] = []
        for sent in self.of_rungs(picture, rungs):
            best.append(min([*best[-1:], sent], key=lambda s: (s.mse, s.bits)))
        return best

    def of_rungs(self, picture: int, rungs: Iterable[float]) -> list[Sent]:
        """For each of some budgets the best of the files that may end at different levels."""
        jobs = []
        for budget in rungs:
            lasts = ends_for(self.plan, self.cost[picture], budget, self.surplus)
            jobs.append([Job(picture, budget), *(Job(picture, budget, last=n) for n in lasts)])
        sent = iter(self.once([job for of_rung in jobs for job in of_rung]))
        return [min([next(sent) for _ in of_rung], key=lambda s: (s.mse, s.bits)) for of_rung in jobs]

    def smallest(self, picture: int, mse: float, limit: Callable[[], float]) -> Sent | None:
        """A file that just reaches ``mse``; None if that takes more than ``limit()`` bits of payload.

        That is asked only if all steps, with the bits that they need, do not reach it: then they get more.
        """
        [sent] = self.fed([Job(picture, mse=mse)])
        before = len(sent.stream.kl) - 1
        below = (0.0, math.inf)  # bits and error of a file that does not reach it
        if sent.mse <= mse and before >= 1:
            below = sum(map(len, sent.stream.messages[:before])), sent.stream.mse[before]
        budget = most = math.inf
        while sent.mse > mse:
            if math.isinf(most):
                budget, most = sent.bits, limit()
            if budget >= most:
                return None
            below, budget = (sent.bits, sent.mse), min(max(budget, 1) * MORE, most)
            [sent] = self.fed([Job(picture, budget)])
        return self.closer(picture, mse, sent, below) if self.channel.writes else sent

    def closer(self, picture: int, mse: float, best: Sent, below: tuple[float, float]) -> Sent:
        """From a file that reaches ``mse`` and one that does not, bits and error, to the smallest that does.

        Bits are guessed by interpolation in logarithms. Of small files also some that are shorter still are tried.
        """
        for _ in range(TRIALS):
            bits, worse = below
            if best.mse * NEAR >= mse or best.bits <= max(bits, 1) * CLOSE or not worse > best.mse:
                break
            share = math.log(worse / mse * NEAR) / math.log(worse / max(best.mse, 1e-9)) if worse < math.inf else 0.5
            low = max(bits, 1)
            [sent] = self.fed([Job(picture, low * (best.bits / low) ** min(max(share, 0.1), 0.95))])
            if sent.mse > mse:
                if sent.bits <= bits:
                    break
                below = sent.bits, sent.mse
            elif sent.bits < best.bits:
                best = sent
            else:
                break
        while best.bits < SMALL:
            reached = [s for s in self.fed([Job(picture, best.bits * part) for part in BELOW]) if s.mse <= mse]
            shorter = min([best, *reached], key=lambda s: s.bits)
            if shorter is best:
                break
            best = shorter
        return best
