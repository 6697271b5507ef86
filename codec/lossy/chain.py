"""The chain: from shared noise along z_s ~ p(z_s | z_t), each step steered by what a channel hands over.

The first step sends z_T itself, z_T ~ q(z_T | x) under what is known of all pictures: a noise that knows nothing of x
would show the network a wrong mean colour, and correcting that later costs several times more.

``Chain`` is what encoder and decoder share: the state z, the prediction of the next step, and the move to its mean and
on. The encoder looks at x to choose what is sent; the decoder reads it. Everything else is the same code on both sides.

z lies in the coordinates of basis.py. In those of bands of which nothing has been sent yet it holds the noise that both
sides began with. Of a grey image only the coordinates along grey are coded; along the other colours z holds the noise
that q(z_s | z_t, x = 0) gives it, drawn from shared randomness, so that costs nothing and the network sees colour
images as it was trained to.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from codec.randomness.streams import shared_noise
from ddpm.diffusion.process import BandStep
from ddpm.exact.roots import sqrt_

from .basis import Cosines, Places, over
from .denoise import denoise, mirrored_x_hat
from .setting import Setting

CHROMA = 1 << 32  # streams of shared noise beside those of the steps


@dataclass
class Prediction:
    """What p says of z_s: its mean is that of q with x_hat for x, its variance 1 + r times that of q."""

    step: BandStep
    x_hat: torch.Tensor  # (B, 3, H, W); gone when the chain has moved on
    r: torch.Tensor  # (B, n), of the coordinates that the step sends something of
    hat: torch.Tensor | None = None  # x_hat in all coded coordinates, as soon as that is asked for

    def of(self, members: Sequence[int]) -> Prediction:
        """For some of the images."""
        return Prediction(self.step, self.x_hat[members], self.r[members])


class Chain:
    """B images on their way from noise; ``z`` is (B, 3, H, W) float32, coordinates, at step ``k`` of the plan."""

    def __init__(self, setting: Setting, batch: int):
        self.setting, self.plan, self.grey, self.k = setting, setting.plan, setting.grey, 0
        self.model, self.device = setting.model, setting.model.device
        self.basis = Cosines(setting.tables, setting.size, setting.grey)
        self.z = self._noise(CHROMA - 1).repeat(batch, 1, 1, 1)
        self._places: tuple[np.ndarray, Places] | None = None

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

    def step(self) -> BandStep:
        return self.basis.step(self.gamma, self.plan.gammas[self.k + 1])

    def places(self) -> Places:
        """The coordinates that the next step sends something of."""
        present = self.step().alpha_s > 0
        if self._places is None or (self._places[0] != present).any():
            self._places = present, self.basis.places(present)
        return self._places[1]

    def seen(self, *, turned=False) -> torch.Tensor:
        """What the network is shown of z, (B, 3, H, W) pixels. turned: with the opposite noise in bands that have
        nothing else."""
        return self.basis.picture(self.z, self.basis.view(self.gamma, turned=turned))

    def denoise(self) -> tuple[torch.Tensor, torch.Tensor]:
        """x_hat and m where the chain stands, (B, 3, H, W) each."""
        z = self.z if math.isinf(self.gamma) else self.seen()  # of which nothing is known, and nothing is seen
        return denoise(self.model, self.setting.tables, self.level, z)

    def mean(self, x_hat: torch.Tensor | None = None) -> torch.Tensor:
        """The best guess at x where the chain stands; ``x_hat`` if that is known already.

        Pictures and their mirror images are equally likely, but a network is not quite even: what it is shown is
        evaluated in a mirror as well, and the mean of the two is the guess. So is noise that says nothing of x as
        likely as its opposite.
        """
        x_hat = self.denoise()[0] if x_hat is None else x_hat
        if math.isinf(self.gamma):
            return x_hat
        other = mirrored_x_hat(self.model, self.setting.tables, self.level, self.seen(turned=True))
        return other.add_(x_hat).div_(2)

    def predict(self) -> Prediction:
        """p(z_s | z_t) for the step that comes next."""
        step = self.step()
        x_hat, m = self.denoise()
        return Prediction(step, x_hat, self.places().of(self.basis.extra_variance(self.level, step.gain, m)))

    def coordinates(self, x: torch.Tensor) -> torch.Tensor:
        """Those that are coded of pixels (B, 3, H, W)."""
        return self.basis.coordinates(x)

    def delta(self, p: Prediction, x: torch.Tensor) -> torch.Tensor:
        """(mean_q - mean_p) / std_q in the coordinates that the step sends something of, (B, n); x in coordinates."""
        places = self.places()
        error = places.of(x - self._hat(p))
        return error.mul_(places.spread(p.step.x_coef / p.step.std_q, error))

    def advance(self, p: Prediction, zeta: Callable[[], torch.Tensor]) -> None:
        """z_s = mean of p + its std times zeta() (B, n), which is asked for when x_hat is used up: room is scarce."""
        places = self.places()
        self._move_to_mean(p)
        drawn = zeta()
        std = sqrt_(1 + p.r)
        places.add(self.z, std.mul_(places.spread(p.step.std_q, std)).mul_(drawn))
        self.k += 1

    def _hat(self, p: Prediction) -> torch.Tensor:
        p.hat = self.basis.coordinates(p.x_hat) if p.hat is None else p.hat
        return p.hat

    def _move_to_mean(self, p: Prediction) -> None:
        """Noise of bands that have nothing else stays."""
        step, present, hat = p.step, p.step.alpha_s > 0, self._hat(p)
        del p.x_hat
        self.basis.times(self.z, np.where(present, step.z_coef, 1.0))
        coded = self.z[:, : self.basis.colours]
        coded += self.basis.times(hat, step.x_coef)
        p.hat = None
        if self.grey:
            noise = self.basis.times(self._noise(CHROMA + self.k), np.where(present, step.std_q, 0.0))
            self.z[:, 1:] += noise[:, 1:]

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
