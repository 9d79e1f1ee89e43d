"""Where J is measured: the noisy latents x_t of the model's own sampling (paper, eq. 6), or of given images (eq. 7)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .denoiser import Conditioning, Denoiser
from .errors import CadError
from .progress import Progress, silent
from .schedule import Spacing


@dataclass(frozen=True)
class Sampling:
    """How pictures are sampled, see sample_trajectories; `latent_shape` is (channels, height, width), `batch` how many go together."""

    trajectories: int
    steps: int
    cfg: float
    seed: int
    batch: int
    spacing: Spacing
    latent_shape: tuple[int, int, int]


@dataclass(frozen=True)
class Point:
    """All trajectories at one timestep.

    Attributes:
        t: the timestep that the UNet is given with `x_t`.
        x_t: latents before the step, [N, C, H, W] on the CPU.
        eps_uncond: what sampling predicted there without the concept, [N, C, H, W] on the CPU; None where it made no such
            prediction (guidance 1).
    """

    t: int
    x_t: Tensor
    eps_uncond: Tensor | None


def together(points: Sequence[Point]) -> Point:
    """Points at one and the same timestep as a single one, their trajectories one after the other."""
    unconds = [point.eps_uncond for point in points if point.eps_uncond is not None]
    eps_uncond = torch.cat(unconds) if len(unconds) == len(points) else None
    return Point(points[0].t, torch.cat([point.x_t for point in points]), eps_uncond)


def initial_noise(seed: int, count: int, shape: tuple[int, int, int]) -> Tensor:
    """x_T [count, C, H, W]; sample i depends on `seed + i` alone, so a batch size or a longer run changes none of them."""
    return torch.stack([torch.randn(shape, generator=torch.Generator().manual_seed(seed + i)) for i in range(count)])


def antithetic_noise(seed: int, samples: range, shape: tuple[int, int, int]) -> Tensor:
    """x_T [N, C, H, W] of the `samples` by their numbers, in pairs z and -z: what depends linearly on the noise cancels within a pair.

    Samples 2 i and 2 i + 1 depend on `seed + i` alone.
    """
    return torch.cat([initial_noise(seed + number // 2, 1, shape) * (-1) ** number for number in samples])


@torch.no_grad()
def sample_trajectories(
    denoiser: Denoiser,
    cond: Conditioning,
    uncond: Conditioning,
    *,
    trajectories: int = 20,
    steps: int = 10,
    cfg: float = 3.0,
    seed: int = 0,
    batch: int = 4,
    spacing: Spacing = "trailing",
    antithetic: bool = False,
    latent_shape: tuple[int, int, int] | None = None,
    progress: Progress = silent,
) -> tuple[list[Point], Tensor]:
    """Sample `trajectories` pictures with DDIM and classifier-free guidance and keep every latent on the way.

    Returns the points, one a timestep from noise to picture, and the final latents x_0 [N, C, H, W], all on the CPU.
    The latent is kept *with the timestep it was denoised at* (the paper's reference scores it with the one before).
    Raises CadError for counts below one or a guidance below 1.
    """
    if trajectories < 1 or batch < 1:
        raise CadError(f"trajectories and batch must be at least 1, got {trajectories} and {batch}")
    if cfg < 1:
        raise CadError(f"cfg (guidance) must be at least 1, got {cfg}")
    timesteps, lead = denoiser.schedule.ddim_timesteps(steps, spacing), denoiser.schedule.lead(steps, spacing)
    shape = latent_shape or denoiser.latent_shape
    noise = antithetic_noise(seed, range(trajectories), shape) if antithetic else initial_noise(seed, trajectories, shape)
    latents: list[list[Tensor]] = [[] for _ in timesteps]
    unconds: list[list[Tensor]] = [[] for _ in timesteps]
    finals = []
    chunks = noise.split(batch)
    progress("sampling", 0, len(chunks) * steps)
    for number, chunk in enumerate(chunks):
        x = led_in(denoiser, chunk.to(denoiser.device), lead, timesteps[0], cond)
        for i, t in enumerate(timesteps):
            latents[i].append(x.cpu())
            eps, eps_uncond = guided_eps(denoiser, x, t, cond, uncond, cfg)
            if eps_uncond is not None:
                unconds[i].append(eps_uncond.cpu())
            x = denoiser.schedule.ddim_step(x, eps, t, timesteps[i + 1] if i + 1 < steps else None)
            progress("sampling", number * steps + i + 1, len(chunks) * steps)
        finals.append(x.cpu())
    points = [Point(t, torch.cat(latents[i]), torch.cat(unconds[i]) if unconds[i] else None) for i, t in enumerate(timesteps)]
    return points, torch.cat(finals)


@torch.no_grad()
def led_in(denoiser: Denoiser, noise: Tensor, lead: int | None, first: int, cond: Conditioning) -> Tensor:
    """x_t at the timestep `first` of a sampling: `noise` itself, or a step of it from timestep `lead` (see NoiseSchedule.lead).

    That step takes no guidance, which matters least, or harms, where there is nothing but noise (Kynkäänniemi et al. 2024).
    """
    return noise if lead is None else denoiser.schedule.ddim_step(noise, denoiser.eps(noise, lead, cond), lead, first)


def guided_eps(
    denoiser: Denoiser, x_t: Tensor, t: int, cond: Conditioning, uncond: Conditioning, cfg: float
) -> tuple[Tensor, Tensor | None]:
    """eps with classifier-free guidance, and the unconditional one that it took; None at guidance 1, which takes none."""
    eps = denoiser.eps(x_t, t, cond)
    if cfg <= 1:
        return eps, None
    eps_uncond = denoiser.eps(x_t, t, uncond)
    return eps_uncond + cfg * (eps - eps_uncond), eps_uncond


def stratified_timesteps(length: int, count: int, seed: int) -> list[int]:
    """`count` timesteps of a schedule of `length`, one drawn at random from each of `count` equal parts."""
    if not 1 <= count <= length:
        raise CadError(f"steps must be between 1 and {length}, the length of the noise schedule, got {count}")
    generator = torch.Generator().manual_seed(seed)
    inside = torch.rand(count, generator=generator).tolist()
    return [int((i + inside[i]) * length / count) for i in reversed(range(count))]


def noised_points(denoiser: Denoiser, latents: Tensor, *, steps: int, seed: int) -> Sequence[tuple[int, Tensor, Tensor]]:
    """(t, x_t, eps) for clean `latents` [N, C, H, W] at `steps` stratified timesteps, fresh noise at each (paper, eq. 7)."""
    if latents.ndim != 4 or len(latents) == 0:
        raise CadError(f"latents of the concept's images must be [N, C, H, W] with N at least 1, got {list(latents.shape)}")
    generator = torch.Generator().manual_seed(seed)
    result = []
    for t in stratified_timesteps(len(denoiser.schedule), steps, seed):
        eps = torch.randn(latents.shape, generator=generator)
        result.append((t, denoiser.schedule.add_noise(latents.cpu(), eps, t), eps))
    return result
