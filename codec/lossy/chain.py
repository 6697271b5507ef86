"""The chain: from shared noise along z_s ~ p(z_s | z_t), each step steered by what a channel hands over.

The first step sends z_T itself, z_T ~ q(z_T | x) under what is known of all pictures: a noise that knows nothing of x
would show the network a wrong mean colour, and correcting that later costs several times more.

``Chain`` is what encoder and decoder share: the state z, the prediction of the next step, and the move to its mean and
on. The encoder looks at x to choose what is sent; the decoder reads it. Everything else is the same code on both sides.

Steps are coded in the coordinates of basis.py. Of a grey image only those along grey are; along the other colours z
holds the noise that q(z_s | z_t, x = 0) gives it, drawn from shared randomness, so that costs nothing and the network
sees colour images as it was trained to.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from codec.randomness.streams import shared_noise
from ddpm.diffusion.gaussian import Step
from ddpm.exact.roots import sqrt_

from .basis import Cosines, over
from .denoise import denoise, mirrored_x_hat
from .setting import Setting

CHROMA = 1 << 32  # streams of shared noise beside those of the steps


@dataclass
class Prediction:
    """What p says of z_s: its mean is that of q with x_hat for x, its variance 1 + r times that of q."""

    step: Step
    x_hat: torch.Tensor  # (B, 3, H, W); gone when the chain has moved to the mean
    r: torch.Tensor  # (B, n), of the coded coordinates

    def of(self, members: Sequence[int]) -> Prediction:
        """For some of the images."""
        return Prediction(self.step, self.x_hat[members], self.r[members])


class Chain:
    """B images on their way from noise; ``z`` is (B, 3, H, W) float32 at step ``k`` of the plan."""

    def __init__(self, setting: Setting, batch: int):
        self.setting, self.plan, self.grey, self.k = setting, setting.plan, setting.grey, 0
        self.model, self.device = setting.model, setting.model.device
        self.basis = Cosines(setting.tables, setting.size, setting.grey)
        self.z = self._noise(CHROMA - 1).repeat(batch, 1, 1, 1)

    def _noise(self, stream: int) -> torch.Tensor:
        """(1, 3, H, W), that both sides know."""
        height, width = self.setting.size
        return shared_noise(self.setting.seed, stream, 3 * height * width).view(1, 3, height, width).to(self.device)

    @property
    def gamma(self) -> float:
        return self.plan.gammas[self.k]

    @property
    def level(self) -> int:
        """Where in the model's tables the chain stands."""
        return self.plan.stops[self.k]

    @property
    def key(self) -> tuple[int, int]:
        """The name of the next step's randomness."""
        return self.setting.seed, self.k

    def step(self) -> Step:
        return Step(self.gamma, self.plan.gammas[self.k + 1])

    def denoise(self) -> tuple[torch.Tensor, torch.Tensor]:
        """x_hat and m where the chain stands, (B, 3, H, W) each."""
        return denoise(self.model, self.setting.tables, self.level, self.z)

    def mean(self, x_hat: torch.Tensor | None = None) -> torch.Tensor:
        """The best guess at x where the chain stands; ``x_hat`` if that is known already.

        Pictures and their mirror images are equally likely, but a network is not quite even: the mirrored z is
        evaluated as well, and the mean of the two is shown.
        """
        x_hat = self.denoise()[0] if x_hat is None else x_hat
        if math.isinf(self.gamma):
            return x_hat
        setting = self.setting
        return mirrored_x_hat(self.model, setting.tables, self.level, self.z).add_(x_hat).div_(2)

    def predict(self) -> Prediction:
        """p(z_s | z_t) for the step that comes next."""
        step = self.step()
        x_hat, m = self.denoise()
        return Prediction(step, x_hat, self.basis.extra_variance(self.level, step, m))

    def delta(self, p: Prediction, x: torch.Tensor) -> torch.Tensor:
        """(mean_q - mean_p) / std_q in the coded coordinates, (B, n)."""
        return self.basis.coordinates(p.step.delta(x, p.x_hat))

    def advance(self, p: Prediction, zeta: Callable[[], torch.Tensor]) -> None:
        """z_s = mean of p + its std times zeta() (B, n), which is asked for when x_hat is used up: room is scarce."""
        self._move_to_mean(p)
        drawn = zeta()
        self.z.add_(self.basis.picture(sqrt_(1 + p.r).mul_(p.step.std_q).mul_(drawn)))
        self.k += 1

    def _move_to_mean(self, p: Prediction) -> None:
        free = p.step.z_coef * self.z + p.step.std_q * self._noise(CHROMA + self.k) if self.grey else None
        p.step.move_to_mean(self.z, p.x_hat)
        if free is not None:
            self.z = mean_of_colours(self.z) + free - mean_of_colours(free)
        del p.x_hat

    def picture(self, x_hat: torch.Tensor) -> torch.Tensor:
        """x_hat (B, 3, H, W) as it is shown: grey images have equal channels."""
        return mean_of_colours(x_hat).expand(-1, 3, -1, -1) if self.grey else x_hat

    def keep(self, members: Sequence[int]) -> None:
        """Go on with these images of the batch only."""
        self.z = self.z[list(members)]


def mean_of_colours(values: torch.Tensor) -> torch.Tensor:
    """(B, 3, H, W) -> (B, 1, H, W), added in order."""
    red, green, blue = values.split(1, 1)
    return over(red + green + blue, 3)
