"""Folders as diffusers writes them; networks of the paper's sizes with random weights."""

import pytest
import torch

diffusers = pytest.importorskip("diffusers")

TINY = {
    "sample_size": 16,
    "block_out_channels": (16, 32),
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
    "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
    "layers_per_block": 1,
    "norm_num_groups": 8,
    "attention_head_dim": None,
}

PAPER = {"layers_per_block": 2, "norm_eps": 1e-6, "flip_sin_to_cos": False, "freq_shift": 1, "downsample_padding": 0}
PAPER |= {"attention_head_dim": None}


def levels_with_attention(n, at):
    """Block types of n levels, attention at level ``at`` counted from the finest."""
    names = ["Attn" if i == at else "" for i in range(n)]
    return {
        "down_block_types": tuple(a + "DownBlock2D" for a in names),
        "up_block_types": tuple(a + "UpBlock2D" for a in names[::-1]),
    }


CIFAR = {**PAPER, **levels_with_attention(4, 1), "block_out_channels": (128, 256, 256, 256), "sample_size": 32}

CHURCH = {**PAPER, **levels_with_attention(6, 4), "block_out_channels": (128, 128, 256, 256, 512, 512)}
CHURCH |= {"sample_size": 256}


def save(folder, config=None, unet="", scheduler="", **settings):
    """A random network and a scheduler in ``folder``; the network, in evaluation."""
    torch.manual_seed(0)
    net = diffusers.UNet2DModel(**(TINY if config is None else config)).eval()
    net.save_pretrained(folder / unet)
    diffusers.DDPMScheduler(**settings).save_pretrained(folder / scheduler)
    return net
