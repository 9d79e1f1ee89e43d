"""Noise schedules as models declare them: by a diffusers scheduler's settings, or by a checkpoint's zero-terminal-SNR mark."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from diffusers import DDIMScheduler

from ..schedule import NoiseSchedule

LAST_ALPHA = 4.8973451890853435e-08
"""What a zero alphas_cumprod is raised to, so that x_0 stays defined at the last timestep; the number is ComfyUI's."""

_SETTINGS = ("num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "trained_betas", "rescale_betas_zero_snr")


def from_scheduler_config(config: Mapping[str, Any]) -> NoiseSchedule:
    """The schedule of a scheduler_config.json; the settings that make it are the same for all of diffusers' DDPM-like schedulers."""
    scheduler = DDIMScheduler(**{name: config[name] for name in _SETTINGS if name in config})
    return NoiseSchedule(scheduler.alphas_cumprod.float().clamp(min=LAST_ALPHA))


def zero_terminal_snr(schedule: NoiseSchedule) -> NoiseSchedule:
    """`schedule` stretched until its last timestep is pure noise (Lin et al. 2024, algorithm 1)."""
    root = schedule.alphas_cumprod.double().sqrt()
    root = (root - root[-1]) * root[0] / (root[0] - root[-1])
    return NoiseSchedule((root**2).clamp(min=LAST_ALPHA).float())
