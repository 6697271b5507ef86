"""DDPM = network + schedule. What the rest of the package calls: eps_hat and its uncertainty at any size and gamma."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

import torch
from torch import nn

from ddpm.diffusion.schedule import DATA_STD, schedule_from_config, unit_variance
from ddpm.exact.mode import ExactMaps
from ddpm.networks.local import LocalConfig, LocalNet
from ddpm.networks.unet import UNet, UNetConfig

if TYPE_CHECKING:
    from ddpm.exact.local import ExactLocalNet

NETWORKS = {"unet": (UNetConfig, UNet), "local": (LocalConfig, LocalNet)}
ROWS = 256  # of a large picture, looked at together
LOG_M = -12, 6  # limits of h_m


def mirror(n: int, size: int, device=None) -> torch.Tensor:
    """Indices 0..n-1 continued by reflection to ``size`` positions; defined for any n >= 1."""
    i = torch.arange(size, device=device) % max(2 * n - 2, 1)
    return torch.where(i < n, i, 2 * n - 2 - i)


class DDPM(nn.Module):
    """eps_hat(z, gamma) and log m(z, gamma), m = E[(eps - eps_hat)^2 | z] per dimension.

    One map of uncertainty serves three ends: p's extra variance r = expm1(gamma_t - gamma_s) m in any step, the
    log-scale of x given z_0, and weights for the channel simulation. Since x - x_hat = sigma/alpha (eps_hat - eps),
    the standard deviation of x given z is sigma/alpha sqrt(m).

    Which model it is: its name, its card, SHA-256 over all that decoding depends on, and the folder if it is that of a
    training run; all empty until it is ``identified``.
    """

    variance: str = "learned"  # of its reverse process, see reverse.py
    clip: bool = True
    exact: ExactLocalNet | ExactMaps | None = None  # the network in integers; ``forward`` does without

    def __init__(self, config: dict, net: nn.Module | None = None, stride: int = 1):
        """By default with the network of the configuration, new; ``net`` is another one, of that stride."""
        super().__init__()
        self.config = config
        self.schedule = schedule_from_config(config["schedule"])
        if net is None:
            net = network_from_config(config["network"])
            stride = net.config.stride
        self.net, self.stride = net, stride
        self.card, self.name, self.fingerprint, self.run = {}, "", b"", None

    def identified(self, name: str, card: dict, fingerprint: bytes, run: str | None = None) -> Self:
        """This model, which from now on says that it is that one."""
        self.name, self.card, self.fingerprint, self.run = name, card, fingerprint, run
        return self

    @property
    def coding(self) -> dict | None:
        """Coding tables as the card has them, None without any."""
        return self.card.get("coding")

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    def placed(self, device: torch.device | str) -> Self:
        """This model, on a device; weights of convolutions lie in memory as channels_last."""
        return self.to(device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]  # stubs lack it

    def only_evaluated(self) -> Self:
        """This model, which is not to be trained. Its network is exact from now on, unless that takes calibration."""
        if self.exact is None and not isinstance(self.net, LocalNet):
            self.exact = ExactMaps(self.maps_at)
        return self.eval().requires_grad_(False)

    def forward(self, z: torch.Tensor, gamma: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """z (B, C, H, W), gamma (B,) -> eps_hat, log m, both like z. Any H, W >= 1. z has the dtype of the weights."""
        height, width = z.shape[2:]
        h_eps, h_m = (h[:, :, :height, :width] for h in self._net(self.padded(z), gamma))
        gamma = gamma.to(z.dtype)[:, None, None, None]
        alpha2, sigma2 = torch.sigmoid(-gamma), torch.sigmoid(gamma)
        power = alpha2 * DATA_STD**2 + sigma2
        # The best linear guess of eps from z, and the standard deviation of what it leaves to the network.
        c_skip = sigma2.sqrt() / power
        c_out2 = alpha2 * DATA_STD**2 / power
        if torch.is_grad_enabled():
            return c_out2.sqrt() * h_eps + c_skip * z, h_m.clamp(*LOG_M) + c_out2.log()
        # On large pictures every map counts.
        h_eps.mul_(c_out2.sqrt())
        for h_part, z_part in zip(h_eps.split(ROWS, 2), z.split(ROWS, 2)):
            h_part.add_(c_skip * z_part)
        return h_eps, h_m.clamp_(*LOG_M).add_(c_out2.log())

    def maps(self, z: torch.Tensor, gamma: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """h_eps, h_m of the network, like z, of which eps_hat and log m are made; see ``forward``.

        Those of the exact network, if there is one that knows the noise level and z is float32.
        """
        height, width = z.shape[2:]
        if self.exact and z.dtype == torch.float32 and not torch.is_grad_enabled() and self.exact.knows(gamma):
            h_eps, h_m = self.exact.at(self.padded(z), gamma)
        else:
            h_eps, h_m = self._net(self.padded(z), gamma)
        return h_eps[:, :, :height, :width], h_m[:, :, :height, :width]

    def maps_at(self, z: torch.Tensor, gamma: float) -> tuple[torch.Tensor, torch.Tensor]:
        """``maps`` of a padded z, by what ``Exactly`` knows."""
        scale = torch.full((len(z), 1, 1, 1), unit_variance(gamma, DATA_STD), device=z.device)
        return self.net(z, torch.full((len(z),), gamma, device=z.device), scale)

    def padded(self, z: torch.Tensor) -> torch.Tensor:
        """z (B, C, H, W) continued by its mirror image to multiples of the stride of the network."""
        height, width = (n + -n % self.stride for n in z.shape[2:])
        if (height, width) == z.shape[2:]:
            return z
        rows, columns = mirror(z.shape[2], height, z.device), mirror(z.shape[3], width, z.device)
        return z[:, :, rows[:, None], columns]

    def unit_variance(self, gamma: torch.Tensor) -> torch.Tensor:
        """(B,) -> (B, 1, 1, 1), what brings z to unit variance."""
        g = gamma[:, None, None, None]
        return (torch.sigmoid(-g) * DATA_STD**2 + torch.sigmoid(g)).rsqrt()

    def _net(self, z, gamma):
        return self.net(z, gamma, self.unit_variance(gamma.to(z.dtype)))


def network_from_config(config: dict) -> UNet | LocalNet:
    """The network that ``kind`` names (by default a UNet), of the sizes that the other entries give."""
    sizes = {k: tuple(v) if isinstance(v, list) else v for k, v in config.items() if k != "kind"}
    settings, network = NETWORKS[config.get("kind", "unet")]
    return network(settings(**sizes))


def strict_fp32() -> None:
    """Files are made and read in plain float32: no TF32, no reduced-precision matrix products."""
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
