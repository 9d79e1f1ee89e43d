"""The noise schedule of a Stable Diffusion model: x_t = sqrt(alphas_cumprod[t]) x_0 + sqrt(1 - alphas_cumprod[t]) eps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from .errors import CadError

Prediction = Literal["epsilon", "v_prediction"]
Spacing = Literal["centred", "trailing", "leading"]


@dataclass(frozen=True)
class NoiseSchedule:
    """`alphas_cumprod` [T] float32 on the CPU, indexed by the timestep that the UNet is given."""

    alphas_cumprod: Tensor

    @classmethod
    def scaled_linear(cls, beta_start: float = 0.00085, beta_end: float = 0.012, steps: int = 1000) -> NoiseSchedule:
        """The schedule that every Stable Diffusion 1.x, 2.x and XL checkpoint was trained with."""
        betas = torch.linspace(beta_start**0.5, beta_end**0.5, steps, dtype=torch.float64) ** 2
        return cls(torch.cumprod(1 - betas, dim=0).float())

    def __len__(self) -> int:
        return len(self.alphas_cumprod)

    def ddim_timesteps(self, steps: int, spacing: Spacing = "trailing") -> list[int]:
        """`steps` timesteps from noise to picture.

        "centred" takes the middle of each of `steps` equal parts, so a mean over few steps is nearest to that over all (see `lead` for how
        a picture comes to the first of them); "trailing" takes
        their ends, and so starts at the last timestep, where x_t is pure noise; "leading" is what the paper and diffusers' Stable
        Diffusion configurations use (1, 21, ..., 981 for 50 steps). Raises CadError for a count that the schedule does not have.
        """
        total = len(self)
        if not 1 <= steps <= total:
            raise CadError(f"steps must be between 1 and {total}, the length of the noise schedule, got {steps}")
        if spacing not in get_args(Spacing):
            raise CadError(f"spacing must be {', '.join(get_args(Spacing)[:-1])} or {get_args(Spacing)[-1]}, got {spacing!r}")
        if spacing == "centred":
            return [int((i + 0.5) * total / steps) for i in reversed(range(steps))]
        if spacing == "trailing":
            return [round(total - i * total / steps) - 1 for i in range(steps)]
        stride = total // steps
        # steps_offset 1, as published; a single-step schedule of full length has no room for it.
        return [min(i * stride + 1, total - 1) for i in reversed(range(steps))]

    def lead(self, steps: int, spacing: Spacing) -> int | None:
        """The timestep of a step that is made before those of `ddim_timesteps`, because only there x_t is pure noise.

        None for spacings that begin at, or as published as if at, pure noise.
        """
        last = len(self) - 1
        return last if spacing == "centred" and self.ddim_timesteps(steps, spacing)[0] < last else None

    def _alpha_sigma(self, t: Tensor | int, like: Tensor) -> tuple[Tensor, Tensor]:
        """sqrt(alphas_cumprod_t) and sqrt(1 - alphas_cumprod_t), shaped to multiply `like` [B, C, H, W]."""
        a = self.alphas_cumprod[torch.as_tensor(t).cpu()].double()  # on the CPU: not every device has float64
        a = a.reshape(-1, *[1] * (like.ndim - 1)) if a.ndim else a
        return a.sqrt().to(like.device, like.dtype), (1 - a).sqrt().to(like.device, like.dtype)

    def add_noise(self, x_0: Tensor, eps: Tensor, t: Tensor | int) -> Tensor:
        """x_t of clean latents `x_0` [B, C, H, W] and noise `eps` of the same shape; `t` a timestep or one for each sample [B]."""
        alpha, sigma = self._alpha_sigma(t, x_0)
        return alpha * x_0 + sigma * eps

    def eps_from_model_output(self, output: Tensor, x_t: Tensor, t: Tensor | int, prediction: Prediction) -> Tensor:
        """eps of what the UNet returned; v = alpha eps - sigma x_0 (Salimans & Ho 2022) gives eps = alpha v + sigma x_t."""
        if prediction == "epsilon":
            return output
        alpha, sigma = self._alpha_sigma(t, x_t)
        return alpha * output + sigma * x_t

    def ddim_step(self, x_t: Tensor, eps: Tensor, t: int, t_next: int | None) -> Tensor:
        """One deterministic DDIM step (Song et al. 2021, eq. 12, eta 0) from `t` to `t_next`, or to x_0 when that is None."""
        alpha, sigma = self._alpha_sigma(t, x_t)
        x_0 = (x_t - sigma * eps) / alpha
        return x_0 if t_next is None else self.add_noise(x_0, eps, t_next)
