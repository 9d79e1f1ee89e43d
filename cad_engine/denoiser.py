"""What the engine needs of a diffusion model, and nothing else: this is the only door between the engine and a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from .schedule import NoiseSchedule


class Conditioning(Protocol):
    """A prompt as the model's UNet wants it; the engine only hands it back to the denoiser that made it."""


class WeightAccess(Protocol):
    """How the weight and bias of a leaf module are had, effective (LoRA and casts included) and on the right device.

    `with access(module, like) as (weight, bias): ...` yields them in the dtype and on the device of the tensor `like`; they may
    be inference tensors, and they may be gone after the block. A module without a bias (or a norm without weights) yields None.
    """

    def __call__(self, module: nn.Module, like: Tensor) -> AbstractContextManager[tuple[Any, Any]]: ...


class Denoiser(Protocol):
    """eps(x_t, t, c) of one loaded model.

    Attributes:
        family: what kind of model it is, e.g. "sd1", "sd2", "sdxl", "sandbox".
        unet: the module whose forward the gradients run through.
        layers: every linear layer of the UNet by the name of its weight in the checkpoint, without the leading "model.":
            "diffusion_model.input_blocks.1.1.transformer_blocks.0.ff.net.2.weight". The module has `.weight` [out, in].
        schedule: alphas_cumprod of the model.
        device: where the UNet computes.
        latent_shape: (channels, height, width) of the model's usual latents.
        weight_access: see WeightAccess.
    """

    family: str
    unet: nn.Module
    schedule: NoiseSchedule
    device: torch.device
    latent_shape: tuple[int, int, int]
    weight_access: WeightAccess

    @property
    def layers(self) -> Mapping[str, nn.Module]: ...

    def free_memory(self) -> int | None:
        """Bytes that tensors on `device` can still take, or None where nobody can say."""
        ...

    def encode_prompt(self, prompt: str) -> Conditioning:
        """The conditioning of a prompt."""
        ...

    def together(self, conditionings: Sequence[Conditioning]) -> Conditioning:
        """One conditioning for a batch of so many samples, each under its own; they must be encode_prompt's of this denoiser."""
        ...

    def eps(self, x_t: Tensor, t: int | Tensor, conditioning: Conditioning) -> Tensor:
        """Predicted noise [B, C, H, W] for noisy latents `x_t` [B, C, H, W] at timestep `t` (one, or one a sample [B]).

        Float32, or float64 from a float64 model, whatever the model computes in; on the model's device.

        Differentiable with respect to `x_t` and to whatever the leaf modules of `unet` do. A model that predicts v is
        converted to eps inside.
        """
        ...


class EmbeddingDenoiser(Denoiser, Protocol):
    """A denoiser whose conditioning can be taken apart, as an attack on it needs."""

    def embedding(self, conditioning: Conditioning) -> Tensor:
        """What the text encoder made of a prompt, [1, tokens, width]. Raises CadError for conditioning of several entries."""
        ...

    def with_embedding(self, conditioning: Conditioning, embedding: Tensor) -> Conditioning:
        """`conditioning` with another `embedding` [1, tokens, width], through which gradients pass; all else of it stays."""
        ...
