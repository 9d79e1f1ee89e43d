"""A diffusers model as the engine's Denoiser."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline, StableDiffusionXLPipeline
from torch import Tensor, nn

from ..denoiser import Conditioning, WeightAccess
from ..errors import CadError
from ..gradients import resident_weight
from ..memory import free_memory
from ..schedule import NoiseSchedule, Prediction
from .detect import Family
from .names import MODEL_PREFIX, inverse, rename, unet_modules

_BLANK_LATENT = (0.8223, -0.6876, 0.6364, 0.1380)
"""The scaled latent of an all-grey picture (0 in [-1, 1]), which ComfyUI gives an inpainting model that has nothing to keep."""


@dataclass(frozen=True)
class PromptConditioning:
    """What the text encoders make of one prompt, or of one for each sample of a batch.

    Attributes:
        context: [1 or samples, tokens, width], for the UNet's cross-attention.
        pooled: [1 or samples, width], SDXL only.
    """

    context: Tensor
    pooled: Tensor | None


class DiffusersDenoiser:
    """The Denoiser of a diffusers pipeline, with its autoencoder; all modules in evaluation mode and without gradients.

    An inpainting UNet (9 input channels) is given what ComfyUI gives it for plain text-to-image: a mask of ones (all is to be
    painted) and the latent of a grey picture.

    Attributes beyond the Denoiser protocol:
        pipeline: the components; it has no safety checker and no scheduler.
        prediction: what the UNet returns.
        device: where the UNet is.
        vae_scale: pixels per latent, along each side.
        source: the file or folder that it was loaded from, for messages.
    """

    def __init__(
        self,
        pipeline: StableDiffusionPipeline | StableDiffusionXLPipeline,
        family: Family,
        prediction: Prediction,
        schedule: NoiseSchedule,
        source: str,
    ) -> None:
        self.pipeline = pipeline
        self.family: str = family
        self.prediction = prediction
        self.schedule = schedule
        self.source = source
        self.unet = pipeline.unet
        self.device: torch.device = self.unet.device
        names = inverse(unet_modules(self.unet.config))
        self.layers: Mapping[str, nn.Linear] = {
            f"{MODEL_PREFIX}{rename(name, names)}.weight": module
            for name, module in self.unet.named_modules()
            if isinstance(module, nn.Linear)
        }
        size = self.unet.config.sample_size
        self.latent_shape: tuple[int, int, int] = (self.unet.config.out_channels, size, size)
        self.weight_access: WeightAccess = resident_weight
        self.vae_scale = 8 if pipeline.vae is None else 2 ** (len(pipeline.vae.config.block_out_channels) - 1)

    def free_memory(self) -> int | None:
        """See memory.free_memory."""
        return free_memory(self.device)

    @torch.no_grad()
    def encode_prompt(self, prompt: str) -> PromptConditioning:
        """The conditioning of `prompt`, cut to what the tokenizer takes; CadError when the source has no text encoder."""
        if self.pipeline.text_encoder is None:
            raise CadError(
                f"{self.source} has no text encoder, so the prompt {prompt!r} cannot be encoded; use a full checkpoint of the same model"
            )
        if self.family == "sdxl":
            context, _, pooled, _ = self.pipeline.encode_prompt(prompt, device=self.device, do_classifier_free_guidance=False)
            return PromptConditioning(context, pooled)
        context, _ = self.pipeline.encode_prompt(prompt, self.device, 1, do_classifier_free_guidance=False)
        return PromptConditioning(context, None)

    def together(self, conditionings: Sequence[Conditioning]) -> PromptConditioning:
        """See Denoiser.together. Raises TypeError for the conditioning of another denoiser."""
        mine = [_own(conditioning) for conditioning in conditionings]
        pooled = [one.pooled for one in mine if one.pooled is not None]
        return PromptConditioning(torch.cat([one.context for one in mine]), torch.cat(pooled) if pooled else None)

    def embedding(self, conditioning: Conditioning) -> Tensor:
        """See EmbeddingDenoiser.embedding. Raises TypeError for the conditioning of another denoiser."""
        return _own(conditioning).context

    def with_embedding(self, conditioning: Conditioning, embedding: Tensor) -> PromptConditioning:
        """See EmbeddingDenoiser.with_embedding; the pooled text of SDXL stays."""
        return replace(_own(conditioning), context=embedding)

    def eps(self, x_t: Tensor, t: int | Tensor, conditioning: Conditioning) -> Tensor:
        """Predicted noise [B, 4, H, W] for `x_t` of that shape at timestep `t` (one, or one a sample [B]).

        The UNet computes in its own dtype; the result is float32, or float64 when the UNet is. SDXL is told that the picture
        was and shall be of the size that `x_t` stands for, uncropped. Raises TypeError for the conditioning of another denoiser.
        """
        conditioning = _own(conditioning)
        batch, _, height, width = x_t.shape
        dtype = self.unet.dtype
        sample = x_t.to(self.device, dtype)
        if self.unet.config.in_channels > x_t.shape[1]:
            blank = torch.tensor(_BLANK_LATENT, device=self.device, dtype=dtype).reshape(1, -1, 1, 1)
            sample = torch.cat([sample, torch.ones_like(sample[:, :1]), blank.expand(batch, -1, height, width)], dim=1)
        extra: dict[str, Tensor] | None = None
        if conditioning.pooled is not None:
            size = (height * self.vae_scale, width * self.vae_scale)
            # original size, crop, target size
            time_ids = torch.tensor([[*size, 0, 0, *size]], device=self.device, dtype=dtype)
            pooled = conditioning.pooled.to(self.device, dtype)
            extra = {"text_embeds": pooled.expand(batch, -1), "time_ids": time_ids.expand(batch, -1)}
        output = self.unet(
            sample,
            torch.as_tensor(t, device=self.device),
            conditioning.context.to(self.device, dtype).expand(batch, -1, -1),
            added_cond_kwargs=extra,
        ).sample
        output = output.to(torch.promote_types(dtype, torch.float32))
        return self.schedule.eps_from_model_output(output, x_t.to(output), t, self.prediction)

    def _vae(self) -> AutoencoderKL:
        vae: AutoencoderKL | None = self.pipeline.vae
        if vae is None:
            raise CadError(f"{self.source} has no autoencoder (VAE), so there are no pictures; use a full checkpoint of the same model")
        return vae

    def _vae_portion(self, batch: Tensor) -> int:
        """How many of `batch` (latents or pictures) go through the autoencoder together: as many pixels as one picture of 512 x 512."""
        pixels = batch.shape[-1] * batch.shape[-2] * (self.vae_scale**2 if batch.shape[1] == self.latent_shape[0] else 1)
        return max(1, 512 * 512 // pixels)

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Pictures [B, 3, H, W] in [0, 1] of `latents` [B, 4, h, w]; CadError when the source has no autoencoder."""
        vae = self._vae()
        latents = latents.to(vae.device, vae.dtype) / vae.config.scaling_factor + (vae.config.shift_factor or 0.0)
        # In small portions: in float32 at full size the autoencoder needs more memory than the UNet.
        return torch.cat([(vae.decode(part).sample / 2 + 0.5).clamp(0, 1) for part in latents.split(self._vae_portion(latents))])

    @torch.no_grad()
    def encode(self, pictures: Tensor) -> Tensor:
        """Latents [B, 4, h, w] (the posterior's mean) of `pictures` [B, 3, H, W] in [0, 1]; CadError as for decode."""
        vae = self._vae()
        portions = pictures.split(self._vae_portion(pictures))
        mean = torch.cat([vae.encode(part.to(vae.device, vae.dtype) * 2 - 1).latent_dist.mean for part in portions])
        return (mean - (vae.config.shift_factor or 0.0)) * vae.config.scaling_factor


def _own(conditioning: Conditioning) -> PromptConditioning:
    if not isinstance(conditioning, PromptConditioning):
        raise TypeError(f"conditioning must come from encode_prompt of this denoiser, got a {type(conditioning).__name__}")
    return conditioning
