"""The judge's training: drawn pictures and their reconstructions by the autoencoder, with noise and blur."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor
from torch.nn import functional as F

from ..judge import JudgeNet
from .data import Pictures
from .loop import cosine_rate

PAINTED = 3000
"""So many of the pictures are also shown as the autoencoder paints them."""


def _disturb(pictures: Tensor, rng: np.random.Generator) -> Tensor:
    """Shift by up to three pixels, blur half of the batches a little, add noise: a generated picture is never as clean as a drawn one."""
    shift = tuple(int(offset) for offset in rng.integers(-3, 4, size=2))
    pictures = torch.roll(pictures, shift, dims=(2, 3))
    if rng.random() < 0.5:
        soft = F.avg_pool2d(F.pad(pictures, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
        pictures = pictures.lerp(soft, float(rng.uniform(0, 0.8)))
    return (pictures + float(rng.uniform(0, 0.06)) * torch.randn_like(pictures)).clamp(0, 1)


@torch.no_grad()
def _reconstruct(vae: AutoencoderKL, pictures: Tensor) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        return (vae.decode(vae.encode(pictures * 2 - 1).latent_dist.sample()).sample.float() / 2 + 0.5).clamp(0, 1)


def train_judge(pictures: Pictures, vae: AutoencoderKL, steps: int, batch: int, seed: int, log: Callable[[str], None]) -> JudgeNet:
    """Train on balanced `pictures`, every other batch as the autoencoder paints it."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    painted = torch.cat([_reconstruct(vae, pictures.batch(np.arange(i, i + 50))) for i in range(0, PAINTED, 50)])
    net = JudgeNet().train()
    optimiser = torch.optim.AdamW(net.parameters(), lr=1e-3, weight_decay=1e-2)
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = cosine_rate(step, steps, peak=2e-3, warmup=50)
        index = rng.integers(PAINTED if step % 2 else len(pictures.scenes), size=batch)
        images = painted[torch.from_numpy(index)] if step % 2 else pictures.batch(index)
        logits = net(_disturb(images, rng))
        losses = [F.cross_entropy(a, b, label_smoothing=0.02) for a, b in zip(logits, pictures.labels(index), strict=True)]
        optimiser.zero_grad(set_to_none=True)
        sum(losses).backward()  # type: ignore[union-attr]
        optimiser.step()
        if step % 200 == 0 or step == steps - 1:
            log(f"judge step {step}: losses {', '.join(f'{loss.item():.3f}' for loss in losses)}")
    return net.eval()


@torch.no_grad()
def judge_accuracy(net: JudgeNet, pictures: Pictures, vae: AutoencoderKL) -> dict[str, dict[str, float]]:
    """Accuracy on held-out `pictures`, as drawn and as the autoencoder paints them."""
    result = {}
    for name in ("drawn", "reconstructed"):
        right = torch.zeros(3)
        for start in range(0, len(pictures.scenes), 100):
            index = np.arange(start, min(start + 100, len(pictures.scenes)))
            images = pictures.batch(index)
            if name == "reconstructed":
                images = _reconstruct(vae, images)
            logits = net(images)
            right += torch.stack([(a.argmax(-1) == b).float().sum() for a, b in zip(logits, pictures.labels(index), strict=True)])
        result[name] = {
            part: round(float(hits) / len(pictures.scenes), 4) for part, hits in zip(("shape", "colour", "style"), right, strict=True)
        }
    return result
