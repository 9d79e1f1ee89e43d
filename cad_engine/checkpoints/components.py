"""What every source of a model gives: its parts, before they become a pipeline."""

from __future__ import annotations

from dataclasses import dataclass

from diffusers import AutoencoderKL, StableDiffusionPipeline, StableDiffusionXLPipeline, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from ..schedule import NoiseSchedule, Prediction
from .detect import Family


@dataclass(frozen=True)
class Components:
    """A loaded model; `text_encoders` and `tokenizers` have one entry, two for SDXL, or none when the source has none."""

    family: Family
    prediction: Prediction
    schedule: NoiseSchedule
    unet: UNet2DConditionModel
    vae: AutoencoderKL | None
    text_encoders: tuple[CLIPTextModel | CLIPTextModelWithProjection, ...]
    tokenizers: tuple[CLIPTokenizer, ...]

    def pipeline(self) -> StableDiffusionPipeline | StableDiffusionXLPipeline:
        """The diffusers pipeline of these parts, in evaluation mode, without gradients, safety checker and scheduler."""
        for module in (self.unet, self.vae, *self.text_encoders):
            if module is not None:
                module.eval().requires_grad_(False)
        first = (self.text_encoders[0], self.tokenizers[0]) if self.text_encoders else (None, None)
        if self.family == "sdxl":
            second = (self.text_encoders[1], self.tokenizers[1]) if self.text_encoders else (None, None)
            return StableDiffusionXLPipeline(
                vae=self.vae,
                text_encoder=first[0],
                text_encoder_2=second[0],
                tokenizer=first[1],
                tokenizer_2=second[1],
                unet=self.unet,
                scheduler=None,
                add_watermarker=False,
            )
        return StableDiffusionPipeline(
            vae=self.vae,
            text_encoder=first[0],
            tokenizer=first[1],
            unet=self.unet,
            scheduler=None,
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
