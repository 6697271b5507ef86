"""Progressive coding over an ideal channel: rate and distortion at each level (Ho et al. 2020, section 4.3).

One evaluation of the network at each z_t ~ q(z_t | x), drawn by itself, gives both: the KL of the step that comes next,
and x_hat. Nothing is sent, so these are limits.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from tqdm import tqdm

from ddpm.diffusion.bound import Terms
from ddpm.diffusion.likelihood import LN2, UNIT_LEVELS, to_levels, to_unit
from ddpm.diffusion.noise import Noise


@torch.inference_mode()
def progressive(terms: Terms, pictures: Sequence[np.ndarray], *, first=0, batch=128, seed=0, name="ideal") -> dict:
    """Means over pictures (H, W, 3) uint8 of one size, whose noise is that of the numbers ``first`` and on.

    Of each level z_{T-1}, ..., z_0, so after 1, ..., T reverse steps: "bits_per_dim" received so far, "mse" of x_hat
    in squared grey levels, as in the paper, and "mse_shown" of x_hat as a picture of whole grey levels. "distortion" is
    L_0 in bits/dim.
    """
    device, done = terms.reverse.model.device, []
    with tqdm(total=len(pictures) * (len(terms.steps) + 1), desc=name, disable=None) as bar:
        for start in range(0, len(pictures), batch):
            pixels = torch.from_numpy(np.stack(pictures[start : start + batch])).permute(0, 3, 1, 2).to(device)
            noise = Noise(seed, range(first + start, first + start + len(pixels)), pixels.shape[1:])
            x, kl, errors = to_unit(pixels), [], []
            kl.append(terms.prior(x))
            for k in range(len(terms.steps) + 1):
                eps = noise.draw(device)
                last = k == len(terms.steps)
                nats, x_hat = terms.distortion(x, eps) if last else terms.term(k, x, eps)
                kl.append(nats)
                shown = to_levels(x_hat).float() - pixels
                errors.append(torch.stack([e.square().mean((1, 2, 3)) for e in (UNIT_LEVELS * (x_hat - x), shown)]))
                bar.update(len(x))
            bits = torch.stack(kl).double() / LN2
            rows = torch.cat([bits[:-1].cumsum(0), *torch.stack(errors, 1).double(), bits[-1:]])
            done.append(rows.sum(1).cpu().numpy())
    mean, n = np.sum(done, 0) / len(pictures), len(terms.steps) + 1
    rate, mse, shown, distortion = np.split(mean, [n, 2 * n, 3 * n])
    lists = {"bits_per_dim": rate.tolist(), "mse": mse.tolist(), "mse_shown": shown.tolist()}
    return lists | {"distortion": float(distortion[0])}
