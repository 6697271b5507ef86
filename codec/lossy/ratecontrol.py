"""From what the user asks for (bits/dim, bits/pixel, bytes, PSNR, steps) to the bits of every step."""

from __future__ import annotations

import math
from bisect import bisect_right
from functools import lru_cache

import numpy as np

from .plan import FACTORS, FREE, MEAN, TILTS, Allotment, Plan, Profile

SURE = 0.2  # standard deviation of the logarithm of what a probe says of a step


def choose(plan: Plan, cost: np.ndarray, budget: float, steps: int | None = None) -> tuple[Profile, int]:
    """Profile and number of steps for a picture of that cumulative cost (bits) and a payload of at most ``budget``.

    For each number of steps the profiles are judged by how far their leaning away from the model's tables is, in
    logarithms and weighted by the cost, from the picture's leaning away from the model's reference; the choice weighs
    that against bits left unused. Where there is no budget, all steps (or ``steps``) are taken.
    """
    misfit = misfits(plan, cost)
    if math.isinf(budget):
        last = min(steps or plan.steps, plan.steps)
        return profile_at(misfit[:, last - 1].argmin()), last
    misfit, totals = np.concatenate([misfit[:, :1], misfit], 1), totals_of_all(plan)
    unused = 1 - totals / max(budget, 1)
    loss = unused + 0.5 * misfit + 10 * (unused > 0.03)
    loss[totals > budget] = np.inf
    best, last = np.unravel_index(loss.argmin(), loss.shape)
    return profile_at(best), int(last)


def profile_at(index: np.integer) -> Profile:
    """The profiles in their order: by factor, then by tilt."""
    return Profile(*divmod(int(index), TILTS))


@lru_cache(maxsize=4)
def totals_of_all(plan: Plan) -> np.ndarray:
    """(profiles, steps + 1): bits of the first 0, 1, ... steps; the many budgets of a search ask for the same."""
    return np.array([plan.totals(profile_at(i)) for i in np.arange(FACTORS * TILTS)])


def gaps(plan: Plan, cost: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Bits of each step, (steps,), and the logarithm of the factor that each tilt would need there, (TILTS, steps)."""
    spent = np.diff(cost)
    steps = np.array([np.diff(plan.totals(Profile(MEAN.factor, t))) for t in range(TILTS)], float)
    lean = np.log(np.maximum(steps, 0.5) / np.maximum(steps[MEAN.tilt], 0.5))
    return spent, np.log(np.maximum(spent, 1e-6) / np.maximum(plan.ideal(), 1e-6)) - lean


def misfits(plan: Plan, cost: np.ndarray) -> np.ndarray:
    """(profiles, steps): mean squared logarithm by which a profile misses a picture's cost over the first 1, 2, ..."""
    scale = np.log([Profile(f, 0).scale / 256 for f in range(FACTORS)])
    spent, gap = gaps(plan, cost)
    weight = np.cumsum(spent) + 1e-9
    mean, square = (np.cumsum(spent * gap**p, 1) / weight for p in (1, 2))
    misfit = square[None] - 2 * scale[:, None, None] * mean[None] + scale[:, None, None] ** 2
    misfit = misfit.reshape(FACTORS * TILTS, plan.steps)
    misfit[FREE.factor * TILTS + FREE.tilt] = np.inf  # which is no table
    return misfit


def better_free(plan: Plan, profile: Profile, steps: int, cost: np.ndarray) -> bool:
    """Whether a byte for each step costs less than a profile, corrected as far as it can be.

    Sending r times too much or too little is taken to lose (ln r)^2 / 2 of a step's bits. Steps that cannot be
    corrected do so by the probe's errors, too; so large pictures are free.
    """
    spent, gap = gaps(plan, cost)
    long = np.array([plan.is_long(k, profile) for k in range(steps)])
    miss = gap[profile.tilt, :steps] - math.log(profile.scale / 256)
    miss -= np.clip(miss, *np.log([[0.5], [1.5]]) * long)
    return spent[:steps] @ (miss**2 + SURE**2 * ~long) / 2 >= 8 * np.sum(~long)


class Oracle:
    """Spends ``surplus`` bits per bit of KL: what no decoder could know, but what tables and corrections aim at."""

    def __init__(self, plan: Plan, surplus: float):
        self.plan, self.surplus, self.steps = plan, surplus, plan.steps

    def bits(self, step: int, kl: float) -> int:
        return min(max(1, round(self.surplus * kl)), self.plan.room(step))


class Fixed:
    """Spends what a profile gives, no more and no less."""

    def __init__(self, plan: Plan, profile: Profile, steps: int):
        self.plan, self.profile, self.steps, self.corrections = plan, profile, steps, b""

    def bits(self, step: int, kl: float) -> int:
        if not self.plan.is_long(step, self.profile):
            return self.plan.bits(step, self.profile)
        self.corrections += bytes([128])
        return Allotment.corrected(self.plan, self.profile, step, 128)


class Controlled:
    """Corrects every long step to what it turns out to need, and what follows to what is left of the budget.

    The probe says how the cost goes on, up to a factor that the chain so far has shown. The end moves, within
    ``SLACK`` steps, to where the bits that are left come nearest to those needed, and can be spent to the last.
    """

    SLACK = 2

    def __init__(
        self,
        plan: Plan,
        profile: Profile,
        steps: int,
        cost: np.ndarray,
        *,
        budget: float,
        surplus: float,
        slack: int = SLACK,
    ):
        self.plan, self.profile, self.corrections = plan, profile, b""
        self.steps, self.most = steps, min(steps + slack, plan.steps)
        self.expected, self.budget, self.surplus = np.diff(cost), budget, surplus
        self.spent, self.seen = 0, np.zeros(2)
        long = [k for k in range(self.most) if plan.is_long(k, profile)]
        self.range = np.zeros((2, self.most))  # what corrections can make of the steps
        self.range[:, long] = [[Allotment.corrected(plan, profile, k, c) for k in long] for c in (0, 255)]

    def bits(self, step: int, kl: float) -> int:
        n = self._bits(step, self.surplus * kl)
        self.spent += n
        return n

    def _bits(self, step: int, wanted: float) -> int:
        self.seen = 0.5 * self.seen + [wanted, self.surplus * self.expected[step]]
        if not self.plan.is_long(step, self.profile):
            return self.plan.bits(step, self.profile)
        if math.isfinite(self.budget):
            left = self.budget - self.spent
            ahead = np.cumsum(self.surplus * self.expected[step + 1 : self.most]) * (self.seen[0] / self.seen[1])
            needed = wanted + np.concatenate([[0], ahead])  # to end after this step, the next, ...
            least, greatest = np.cumsum(self.range[:, step : self.most], 1)
            loss = np.abs(np.log(max(left, 1) / needed)) + 1e3 * (left > greatest)
            end = int(np.where(least <= left, loss, np.inf).argmin())
            self.steps = step + 1 + end
            wanted *= left / needed[end]
            wanted = min(max(wanted, left - (greatest[end] - greatest[0])), left - (least[end] - least[0]))
        self.corrections += bytes([Allotment.correction(self.plan, self.profile, step, wanted)])
        return Allotment.corrected(self.plan, self.profile, step, self.corrections[-1])


def side_bits(plan: Plan, profile: Profile, steps: int) -> int:
    """What the corrections of a file take, with their checksum."""
    count = Allotment.count_long(plan, profile, steps)
    return 8 * (count + 1) if count else 0


def spending_for(
    plan: Plan, cost: np.ndarray, budget: float, surplus: float, *, steps: int | None = None, free=False
) -> Fixed | Controlled:
    """Who spends ``budget`` bits on a picture of that cumulative cost (bits): on messages, and corrections if any.

    free: whatever the cost says, no table is trusted.
    """
    if math.isinf(budget):
        profile, steps = choose(plan, cost, budget, steps)
    else:
        steps = int(np.abs(np.log(max(budget, 1) / (surplus * np.maximum(cost[1:], 1e-6)))).argmin()) + 1
        profile = profile_at(misfits(plan, cost)[:, steps - 1].argmin())
    if free or better_free(plan, profile, steps, cost):
        profile = FREE
    most = min(steps + Controlled.SLACK, plan.steps)
    last = range(max(0, steps - 1 - Controlled.SLACK), most)
    if math.isinf(budget) or all(plan.is_long(k, profile) for k in last):
        budget -= side_bits(plan, profile, most)
        return Controlled(plan, profile, steps, cost, budget=budget, surplus=surplus)
    # Short steps cannot be corrected, so here the profile itself must use the budget up.
    side, needed = -1, 0
    while needed > side:
        side = needed
        profile, steps = choose(plan, cost, max(0, budget - side))
        needed = side_bits(plan, profile, steps)
    return Fixed(plan, profile, steps)


def ends_for(plan: Plan, cost: np.ndarray, budget: float, surplus: float) -> list[int]:
    """Numbers of steps with which so few bits may go furthest, if every step says its own."""
    needed = [surplus * cost[n] + side_bits(plan, FREE, n) for n in range(1, plan.steps + 1)]
    middle = bisect_right(needed, budget)
    return sorted({n for n in (1, middle - 1, middle, middle + 1) if 1 <= n <= plan.steps})


def ending_at(plan: Plan, cost: np.ndarray, budget: float, surplus: float, steps: int) -> Controlled:
    """Who spends ``budget`` bits on exactly so many steps, each of which says its own."""
    payload = max(0, budget - side_bits(plan, FREE, steps))
    return Controlled(plan, FREE, steps, cost, budget=payload, surplus=surplus, slack=0)
