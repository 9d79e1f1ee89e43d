"""Pictures from a loaded model, for looking at an edit's effect: DDIM with classifier-free guidance, one seed a picture."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from .checkpoints.denoiser import DiffusersDenoiser
from .denoiser import Conditioning
from .errors import CadError
from .progress import Progress, silent
from .trajectory import initial_noise


def paint(
    denoiser: DiffusersDenoiser,
    prompts: Sequence[str],
    seeds: Sequence[int],
    *,
    steps: int = 20,
    cfg: float = 7.5,
    batch: int = 4,
    size: tuple[int, int] | None = None,
    progress: Progress = silent,
) -> Iterator[Tensor]:
    """Pictures [3, H, W] in [0, 1] on the CPU one after the other, picture i of `prompts[i]` from `seeds[i]` alone.

    `batch` pictures are computed together, which changes none of them; `size` is (height, width) of the latents. Raises CadError
    when there is not one seed a prompt, a count makes no sense, or a picture is not finite.
    """
    encoded = {prompt: denoiser.encode_prompt(prompt) for prompt in set(prompts)}
    conditionings = [encoded[prompt] for prompt in prompts]
    yield from paint_conditionings(denoiser, conditionings, seeds, steps=steps, cfg=cfg, batch=batch, size=size, progress=progress)


@torch.no_grad()
def paint_conditionings(
    denoiser: DiffusersDenoiser,
    conditionings: Sequence[Conditioning],
    seeds: Sequence[int],
    *,
    steps: int = 20,
    cfg: float = 7.5,
    batch: int = 4,
    size: tuple[int, int] | None = None,
    progress: Progress = silent,
) -> Iterator[Tensor]:
    """`paint` of what prompts are encoded to, one conditioning a picture."""
    if len(conditionings) != len(seeds) or not conditionings:
        raise CadError(f"each prompt needs a seed of its own, got {len(conditionings)} prompts and {len(seeds)} seeds")
    if batch < 1 or not cfg >= 1:  # also refuses NaN
        raise CadError(f"batch and cfg must be at least 1, got {batch} and {cfg:g}")
    shape = denoiser.latent_shape if size is None else (denoiser.latent_shape[0], *size)
    timesteps, uncond = denoiser.schedule.ddim_timesteps(steps), denoiser.encode_prompt("")
    progress("painting", 0, len(seeds))
    for start in range(0, len(seeds), batch):
        x = torch.cat([initial_noise(seed, 1, shape) for seed in seeds[start : start + batch]]).to(denoiser.device)
        cond = denoiser.together(conditionings[start : start + batch])
        for t, t_next in zip(timesteps, [*timesteps[1:], None], strict=True):
            eps = denoiser.eps(x, t, cond)
            if cfg > 1:
                eps_uncond = denoiser.eps(x, t, uncond)
                eps = eps_uncond + cfg * (eps - eps_uncond)
            x = denoiser.schedule.ddim_step(x, eps, t, t_next)
        pictures = denoiser.decode(x).float().cpu()
        if not bool(torch.isfinite(pictures).all()):  # it would become a black file, and count as one without the concept
            raise CadError("a picture is not finite: the model overflows; compute in bfloat16 or float32")
        progress("painting", min(start + batch, len(seeds)), len(seeds))
        yield from pictures


def generate(denoiser: DiffusersDenoiser, prompts: Sequence[str], seeds: Sequence[int], **options: Any) -> Tensor:
    """All of `paint`'s pictures at once, [N, 3, H, W]."""
    return torch.stack(list(paint(denoiser, prompts, seeds, **options)))
