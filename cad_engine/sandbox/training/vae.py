"""First stage: the autoencoder, whose latents come out with mean 0 and standard deviation 1 after the usual factor 0.18215."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor
from torch.nn import functional as F

from ..architecture import VAE_CONFIG
from .data import Pictures
from .loop import cosine_rate

LATENT_NOISE = 0.1
"""Deviation of the noise that the decoder learns to bear; a learnt one drowns the latents in the first few hundred steps."""
LATENT_PENALTY = 1e-4
THUMBNAIL_STEPS = 500
"""For so many steps, and ever less, three latent channels are asked to be the picture's thumbnail: colour is found at once."""


def _edges(picture: Tensor) -> tuple[Tensor, Tensor]:
    return picture[..., 1:, :] - picture[..., :-1, :], picture[..., 1:] - picture[..., :-1]


def _reconstruction_loss(output: Tensor, target: Tensor) -> Tensor:
    """Squared error on pixels and, so that colour is not learnt last, between the channels; absolute error for crisp edges."""
    edges = sum(F.l1_loss(a, b) for a, b in zip(_edges(output), _edges(target), strict=True))
    hue = F.mse_loss(output - output.roll(1, dims=1), target - target.roll(1, dims=1))
    return F.mse_loss(output, target) + 0.5 * hue + 0.3 * F.l1_loss(output, target) + 0.3 * edges


@torch.no_grad()
def _normalise_latents(vae: AutoencoderKL, pictures: Pictures) -> None:
    """Fold the latents' channel mean and deviation into the 1 x 1 convolutions on either side of them (exact, both are linear)."""
    means = torch.cat([vae.encode(pictures.batch(np.arange(i, i + 64)) * 2 - 1).latent_dist.mean for i in range(0, 1024, 64)])
    mean = means.mean(dim=(0, 2, 3))
    scale = means.std(dim=(0, 2, 3)) * vae.config.scaling_factor
    into, out, channels = vae.quant_conv, vae.post_quant_conv, len(mean)
    out.bias += out.weight[:, :, 0, 0] @ mean
    out.weight *= scale.reshape(1, -1, 1, 1)
    into.bias[:channels] = (into.bias[:channels] - mean) / scale
    into.weight[:channels] /= scale.reshape(-1, 1, 1, 1)
    # The posterior's deviation is the noise of the training, whatever the picture.
    into.weight[channels:] = 0
    into.bias[channels:] = 2 * (LATENT_NOISE / scale).log()


def train_vae(pictures: Pictures, steps: int, batch: int, seed: int, log: Callable[[str], None]) -> AutoencoderKL:
    """Train on `pictures` and return the autoencoder in float32."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    vae = AutoencoderKL(**VAE_CONFIG)
    optimiser = torch.optim.AdamW(vae.parameters(), lr=1e-3, weight_decay=1e-4, betas=(0.9, 0.99))
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = cosine_rate(step, steps, peak=1e-3, warmup=50)
        target = pictures.batch(rng.integers(len(pictures.scenes), size=batch)) * 2 - 1
        with torch.autocast("cpu", torch.bfloat16):
            latents = vae.encode(target).latent_dist.mean
            output = vae.decode(latents + LATENT_NOISE * torch.randn_like(latents)).sample.float()
        loss = _reconstruction_loss(output, target) + LATENT_PENALTY * latents.float().square().mean()
        thumbnail = F.mse_loss(latents[:, :3].float(), F.avg_pool2d(target, 8))
        loss = loss + max(0.0, 1 - step / THUMBNAIL_STEPS) * thumbnail
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimiser.step()
        if step % 100 == 0 or step == steps - 1:
            log(f"vae step {step}: loss {loss.item():.4f}, pixel error {F.l1_loss(output, target).item() / 2:.4f}")
    vae.eval()
    _normalise_latents(vae, pictures)
    return vae
