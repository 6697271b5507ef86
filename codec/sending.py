"""What the encoder does around the chain: spend a budget, feed the starved again, come down on a PSNR from above."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

from ddpm.model import DDPM

from . import progressive
from .plan import Allotment, Plan
from .progressive import Stream
from .ratecontrol import probe, side_bits, spending_for
from .target import Target

STARVED = 1.3  # KL along the chain over bits sent, beyond which a picture is coded again
TRIALS = 3  # files made on the way to the smallest that reaches a PSNR
CLOSE = 1.005  # ratio of mean squared errors, or of bits, that is not worth another trial


@dataclass(frozen=True)
class Sent:
    """One picture's stream and the allotment that a decoder needs to read it."""

    stream: Stream
    allotment: Allotment

    @property
    def mse(self) -> float:
        """Of the ``mean`` picture at the end, squared grey levels."""
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


class Sender:
    """Pictures of one size, ``levels`` (B, 3, H, W) uint8, on their way into the code."""

    def __init__(
        self,
        model: DDPM,
        plan: Plan,
        levels: torch.Tensor,
        grey: bool,
        seed: int,
        channel: str,
        bf16: bool,
        progress: Callable[[int], object] | None,
    ):
        self.model, self.plan, self.levels, self.grey, self.seed = model, plan, levels, grey, seed
        self.channel, self.bf16, self.progress = channel, bf16, progress
        self.cost = probe(model, plan, levels, grey, bf16)

    def send(self, target: Target, budget: float) -> list[Sent]:
        """All pictures, each with at most ``budget`` bits of payload, or as far as the target's PSNR or steps."""
        sent = self.fed(dict.fromkeys(range(len(self.levels)), budget), target.mse, target.steps)
        return list((sent if target.mse is None else self.smallest(sent, target.mse)).values())

    def fed(self, budgets: dict[int, float], mse: float | None = None, steps: int | None = None) -> dict[int, Sent]:
        """A picture whose steps were given too little falls ever further behind; the few there are get another try."""
        sent = self.once(budgets, mse, steps)
        hungry = [i for i, s in sent.items() if s.starved > STARVED and s.stream.kl and self.channel == "trellis"]
        if not self.plan.free:
            for i in hungry:
                self.cost[i] *= sent[i].starved
        merit = (lambda s: s.mse) if mse is None else (lambda s: (s.mse > mse, s.bits))
        for i, again in self.once({i: budgets[i] for i in hungry}, mse, steps, free=True).items():
            sent[i] = min(sent[i], again, key=merit)
        return sent

    def once(self, budgets: dict[int, float], mse: float | None, steps: int | None, free=False) -> dict[int, Sent]:
        """One pass of some pictures through the chain, each with its budget."""
        if not budgets:
            return {}
        surplus = self.model.coding["surplus"]
        spending = [
            spending_for(self.plan, self.cost[i], budget, surplus, steps, free) for i, budget in budgets.items()
        ]
        streams = progressive.encode(
            self.model,
            self.plan,
            self.levels[list(budgets)],
            spending,
            self.grey,
            self.seed,
            self.channel,
            mse,
            self.bf16,
            self.progress,
        )
        out = {}
        for (i, budget), stream, by in zip(budgets.items(), streams, spending):
            stream.trim(budget - side_bits(self.plan, by.profile, len(stream.kl)))
            steps = len(stream.kl)
            corrections = by.corrections[: Allotment.count_long(self.plan, by.profile, steps)]
            out[i] = Sent(stream, Allotment(self.plan, by.profile, steps, corrections))
        return out

    def smallest(self, reached: dict[int, Sent], mse: float) -> dict[int, Sent]:
        """From files that end with the first step to reach ``mse``, smaller ones that just reach it.

        The step before gives a lower end of the search; bits are guessed by interpolation in logarithms.
        """
        best, below = dict(reached), {}
        for i, sent in reached.items():
            before = len(sent.stream.kl) - 1
            if before >= 1 and sent.mse <= mse and self.channel == "trellis":
                below[i] = (sum(map(len, sent.stream.messages[:before])), sent.stream.mse[before])
        for _ in range(TRIALS):
            guesses = {}
            for i, (bits, worse) in below.items():
                high = best[i]
                if high.mse * CLOSE < mse and high.bits > bits * CLOSE and worse > high.mse:
                    share = math.log(worse / mse * CLOSE) / math.log(worse / high.mse)
                    guesses[i] = bits * (high.bits / bits) ** min(share, 1)
            if not guesses:
                break
            for i, sent in self.fed(guesses).items():
                if sent.mse > mse:
                    below[i] = (sent.bits, sent.mse)
                elif sent.bits < best[i].bits:
                    best[i] = sent
        return best
