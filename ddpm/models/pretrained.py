"""Models as the diffusers project saves them: an unconditional DDPM in a folder, such as those of the paper.

The folder holds config.json and diffusion_pytorch_model.safetensors, itself or in ``unet/``, and scheduler_config.json,
itself or in ``scheduler/``. What coding needs besides is measured by ``ddpm-codec calibrate`` and lies there too, in
ddpm-codec.json. Nothing is unpickled, nothing downloaded, no class imported that a configuration names; its values are
checked, and the sizes that follow from them compared with those of the weights, before memory is taken.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, TypeGuard

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from torch import nn

from ddpm.diffusion.gaussian import eps_from
from ddpm.diffusion.schedule import DATA_STD, Discrete, guess_of_eps, rounded_alpha_sigma
from ddpm.errors import UnknownModel
from ddpm.files import write_whole

from .model import DDPM
from .store import PICKLES, STEM, fingerprint_of, refuse_pickle

TABLES = "ddpm-codec.json"

T_PARTS = 256  # of a timestep: so coarsely all machines agree on it

# What a configuration may say of the network, and what it means if it does not.
NETWORK = {
    "center_input_sample": False,
    "time_embedding_dim": None,
    "freq_shift": 0,
    "flip_sin_to_cos": True,
    "down_block_types": ["DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"],
    "mid_block_type": "UNetMidBlock2D",
    "up_block_types": ["AttnUpBlock2D", "AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"],
    "block_out_channels": [224, 448, 672, 896],
    "layers_per_block": 2,
    "mid_block_scale_factor": 1,
    "downsample_padding": 1,
    "downsample_type": "conv",
    "upsample_type": "conv",
    "act_fn": "silu",
    "attention_head_dim": 8,
    "norm_num_groups": 32,
    "attn_norm_num_groups": None,
    "norm_eps": 1e-5,
    "resnet_time_scale_shift": "default",
    "add_attention": True,
}
REQUIRED = {"in_channels": 3, "out_channels": 3, "time_embedding_type": "positional"}
UNIMPORTANT = ("sample_size", "dropout", "num_train_timesteps")
BLOCKS = {f"{kind}{way}Block2D" for kind in ("", "Attn") for way in ("Down", "Up")}
BLOCKS |= {"ResnetDownsampleBlock2D", "ResnetUpsampleBlock2D"}
SCHEDULERS = ("DDPMScheduler", "DDIMScheduler", "PNDMScheduler", "DPMSolverMultistepScheduler")
VARIANCE = {
    "fixed_small": "beta-tilde",
    "fixed_small_log": "beta-tilde",
    "fixed_large": "beta",
    "fixed_large_log": "beta",
}
PREDICTIONS = ("epsilon", "v_prediction", "sample")
OLD_NAMES = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}  # of attention, until 2023


class DiffusersDDPM(DDPM):
    """eps_hat(z, gamma) of a diffusers UNet2DModel, asked at the timestep that has this gamma, a fraction if need be.

    The network says nothing of its own error, so m is that of the best linear guess, one value for each gamma. Bands
    of coding tables are relative to m. ``variance`` and ``clip`` are what its scheduler samples with, see reverse.py.
    """

    def __init__(self, config: dict, net: nn.Module, variance: str = "beta-tilde", clip: bool = True):
        channels = config["network"].get("block_out_channels", NETWORK["block_out_channels"])
        super().__init__(config, net, stride=2 ** (len(channels) - 1))
        self.variance, self.clip = variance, clip

    def forward(self, z: torch.Tensor, gamma: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """z (B, 3, H, W) float32, gamma (B,) -> eps_hat, log m, both like z. Any H, W >= 1."""
        assert isinstance(self.schedule, Discrete)
        t = torch.from_numpy(self.schedule.timestep(gamma.cpu().numpy())).to(z.device, z.dtype)
        out = self.net(self.padded(z), t).sample[..., : z.shape[2], : z.shape[3]]
        gamma = gamma.to(z.dtype)[:, None, None, None]
        eps_hat = self.eps_hat(z, out, torch.sigmoid(-gamma).sqrt(), torch.sigmoid(gamma).sqrt())
        return eps_hat, -F.softplus(gamma - 2 * math.log(DATA_STD)).expand_as(z)

    def maps_at(self, z, gamma):
        """What h_eps and h_m of a network of ours would be: eps_hat beside the best linear guess, of which m is."""
        assert isinstance(self.schedule, Discrete)
        t = round(float(self.schedule.timestep(gamma)) * T_PARTS) / T_PARTS
        t = torch.full((len(z),), t, device=z.device)
        eps_hat = self.eps_hat(z, self.net(z, t).sample, *map(float, rounded_alpha_sigma(gamma)))
        c_skip, c_out = guess_of_eps(gamma, DATA_STD)
        return (eps_hat - z * c_skip) / c_out, torch.zeros_like(z)

    def eps_hat(self, z, out, alpha, sigma):
        """From what the network was trained to give."""
        if self.config["prediction"] == "v_prediction":  # alpha eps - sigma x
            return out * alpha + z * sigma
        return eps_from(z, out, alpha, sigma) if self.config["prediction"] == "sample" else out


def load_folder(folder: str | Path, device: torch.device | str = "cpu", tables: bool = True) -> DiffusersDDPM:
    """The model of a folder as ``load_model`` hands it out, with its coding tables if there are any and ``tables``."""
    folder = Path(folder)
    try:
        place = folder / "unet" if (folder / "unet").is_dir() else folder
        weights = weights_in(place)
        card = read_json(folder / TABLES) if tables and (folder / TABLES).is_file() else {}
        schedulers = [folder / "scheduler_config.json", folder / "scheduler" / "scheduler_config.json"]
        scheduler = read_json(next(filter(Path.is_file, schedulers), schedulers[0]))
        network, native = network_config(read_json(place / "config.json"))
        config = {"network": network, "native": native, **scheduler_config(scheduler)}
        variance = scheduler.get("variance_type") or "fixed_small"
        if variance not in VARIANCE:
            raise ValueError(f"variance_type {variance!r} is not supported, only {', '.join(VARIANCE)}")
        net = load_network(network, weights)
        model = DiffusersDDPM(config, net, VARIANCE[variance], scheduler.get("clip_sample") is not False)
        fingerprint = fingerprint_of(config, card.get("coding"), weights)
    except (OSError, SafetensorError, RuntimeError, ValueError, KeyError, TypeError) as e:
        raise UnknownModel(f"{folder}: not a model: {str(e).strip().splitlines()[0]}") from None
    card = {**card, "config": config, "fingerprint": fingerprint}
    return model.identified(folder.resolve().name, card, bytes.fromhex(fingerprint)).placed(device).only_evaluated()


def save_tables(folder: str | Path, card: dict) -> None:
    """Store coding tables (``card["coding"]``, and what to say of them) in a model's folder, whole or not at all."""
    write_whole(Path(folder) / TABLES, (json.dumps(card, indent=1) + "\n").encode())


def read_json(path: Path) -> dict:
    try:
        values = json.loads(path.read_text())
    except FileNotFoundError:
        raise ValueError(f"no {path.name}") from None
    except (ValueError, RecursionError) as e:
        raise ValueError(f"{path.name}: {e}") from None
    if not isinstance(values, dict):
        raise ValueError(f"{path.name} holds no settings")
    return values


def weights_in(place: Path) -> Path:
    """The safetensors file; UnknownModel where there are only pickles, ValueError where there is nothing."""
    path = place / (STEM + ".safetensors")
    if path.is_file():
        return path
    for pickle in (place / (STEM + suffix) for suffix in PICKLES):
        if pickle.is_file():
            refuse_pickle(pickle)
    raise ValueError(f"no {path.name}")


def network_config(said: dict) -> tuple[dict, int | None]:
    """What differs from NETWORK, and the side of the square pictures that the network was made for, if they are.

    ValueError for a network that is no unconditional DDPM on three channels, or of unreasonable size.
    """
    if said.get("_class_name", "UNet2DModel") != "UNet2DModel":
        raise ValueError(f"a {said['_class_name']!r}; only UNet2DModel is supported")
    if said.get("out_channels") == 6:
        raise ValueError("learned variances (6 output channels) are not supported")
    for name, value in REQUIRED.items():
        if said.get(name, value) != value:
            raise ValueError(f"config.json: {name} {said[name]!r} is not supported, only {value!r}")
    network = {}
    for name, value in said.items():
        if name in NETWORK:
            if value != NETWORK[name]:
                network[name] = value
        elif not (name in REQUIRED or name in UNIMPORTANT or name.startswith("_") or value in (None, False)):
            raise ValueError(f"config.json: {name} {value!r} is not supported")
    full = {**NETWORK, **network}
    channels, layers = full["block_out_channels"], full["layers_per_block"]
    if not (isinstance(channels, list) and 1 <= len(channels) <= 8 and all(whole(c, 4096) for c in channels)):
        raise ValueError(f"config.json: block_out_channels {channels!r}")
    if not whole(layers, 32):
        raise ValueError(f"config.json: layers_per_block {layers!r}")
    for name in ("down_block_types", "up_block_types"):
        kinds = full[name]
        if not isinstance(kinds, list) or len(kinds) != len(channels):
            raise ValueError(f"config.json: {name} does not name a block for each of {len(channels)} levels")
        if unknown := [k for k in kinds if k not in BLOCKS]:
            raise ValueError(f"config.json: block {unknown[0]!r} is not supported")
    side = said.get("sample_size")
    if isinstance(side, list) and len(side) == 2 and side[0] == side[1]:
        side = side[0]
    return network, side if whole(side, 65535) else None


def scheduler_config(said: dict) -> dict:
    """{"schedule": ..., "prediction": ...} of a scheduler's settings; ValueError for what is not supported."""
    kind, prediction = said.get("_class_name", SCHEDULERS[0]), said.get("prediction_type", PREDICTIONS[0])
    if kind not in SCHEDULERS:
        raise ValueError(f"scheduler {kind!r} is not supported, only {', '.join(SCHEDULERS)}")
    if prediction not in PREDICTIONS:
        raise ValueError(f"prediction_type {prediction!r} is not supported, only {', '.join(PREDICTIONS)}")
    if said.get("rescale_betas_zero_snr"):
        raise ValueError("rescale_betas_zero_snr is not supported")
    given = said.get("trained_betas")
    if given is not None:
        schedule = {"form": "trained", "T": len(given), "given": [float(b) for b in given]}
    else:
        schedule = {"form": said.get("beta_schedule", "linear"), "T": said.get("num_train_timesteps", 1000)}
        if schedule["form"] != "squaredcos_cap_v2":
            schedule |= {"beta_1": float(said.get("beta_start", 1e-4)), "beta_T": float(said.get("beta_end", 0.02))}
    if not whole(schedule["T"], 100_000):
        raise ValueError(f"num_train_timesteps {schedule['T']!r}")
    return {"schedule": {"kind": "discrete", **schedule}, "prediction": prediction}


def whole(value, most: int) -> TypeGuard[int]:
    """Whether a value is an integer from 1 to ``most``."""
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= most


def load_network(network: dict, weights: Path) -> nn.Module:
    """The diffusers UNet2DModel of a configuration, in float32; ValueError if it and the weights do not agree."""
    try:
        from diffusers import UNet2DModel  # pyright: ignore[reportPrivateImportUsage]  # as its manual says
    except ImportError:
        raise UnknownModel("a diffusers model needs the extra: pip install 'ddpm-codec[diffusers]'") from None
    side = 2 ** (len(network.get("block_out_channels", NETWORK["block_out_channels"])) - 1)
    try:
        with torch.device("meta"):  # sizes only
            sizes: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in network.items()}
            net = UNet2DModel(**sizes).eval()
            shape = net(torch.empty(1, 3, side, side), torch.zeros(1)).sample.shape
    except Exception as e:  # whatever values of the wrong kind lead to in there
        raise ValueError(f"config.json: {str(e) or type(e).__name__}") from None
    if shape != (1, 3, side, side):
        raise ValueError("config.json: the network changes the size of a picture")
    wanted = {k: list(v.shape) for k, v in net.state_dict().items()}
    with safe_open(weights, "pt") as file:
        names = {new_name(k): k for k in file.keys()}  # noqa: SIM118
        if odd := sorted(names.keys() ^ wanted.keys()):
            raise ValueError(f"weights and config.json do not agree: {odd[0]} is in one of them only")
        for name, known in names.items():
            if (found := file.get_slice(known).get_shape()) != wanted[name]:
                raise ValueError(f"weights and config.json do not agree: {name} is {found}, not {wanted[name]}")
        net.load_state_dict({name: file.get_tensor(known).float() for name, known in names.items()}, assign=True)
    return net


def new_name(name: str) -> str:
    """The name that a weight of the network has today."""
    parts = name.split(".")
    if "attentions" in parts:
        parts = [OLD_NAMES.get(part, part) for part in parts]
    return ".".join(parts)
