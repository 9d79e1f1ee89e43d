"""The sandbox's architecture: a small Stable Diffusion 1.x, inside what both diffusers and ComfyUI build.

Every channel count is a multiple of 32, because both group-normalise in 32 groups; the text model is OpenAI-CLIP-shaped
(quick_gelu, last hidden state after the final norm).
"""

from __future__ import annotations

from typing import Any

from .tokenizer import MAX_LENGTH
from .world import PICTURE_SIZE

LATENT_CHANNELS = 4
LATENT_SIZE = PICTURE_SIZE // 8
CONTEXT_WIDTH = 128

UNET_CONFIG: dict[str, Any] = {
    "sample_size": LATENT_SIZE,
    "in_channels": LATENT_CHANNELS,
    "out_channels": LATENT_CHANNELS,
    "block_out_channels": (64, 128),
    "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
    "layers_per_block": 1,
    "transformer_layers_per_block": (1, 2),
    "attention_head_dim": 4,  # diffusers' old name for the number of heads
    "cross_attention_dim": CONTEXT_WIDTH,
}

VAE_CONFIG: dict[str, Any] = {
    "sample_size": PICTURE_SIZE,
    "latent_channels": LATENT_CHANNELS,
    "block_out_channels": (64, 64, 64, 64),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 0,
    "scaling_factor": 0.18215,
}


def text_config(vocabulary_size: int) -> dict[str, Any]:
    """Settings of transformers' CLIPTextConfig; the end token is the vocabulary's last one, as in CLIP."""
    return {
        "vocab_size": vocabulary_size,
        "hidden_size": CONTEXT_WIDTH,
        "intermediate_size": 4 * CONTEXT_WIDTH,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": MAX_LENGTH,
        "hidden_act": "quick_gelu",
        "bos_token_id": vocabulary_size - 2,
        "eos_token_id": vocabulary_size - 1,
        "pad_token_id": vocabulary_size - 1,
        "projection_dim": CONTEXT_WIDTH,
    }
