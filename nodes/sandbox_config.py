"""The sandbox's settings, which are written as diffusers' ones, in the words of ComfyUI's own classes."""

from __future__ import annotations

from typing import Any


def unet_config(diffusers: dict[str, Any]) -> dict[str, Any]:
    """ComfyUI's UNetModel arguments for the UNet2DConditionModel of these settings."""
    channels = diffusers["block_out_channels"]
    levels = len(channels)

    def per_level(value: int | list[int]) -> list[int]:
        return [value] * levels if isinstance(value, int) else list(value)

    layers = per_level(diffusers["layers_per_block"])
    attends = [kind.startswith("CrossAttn") for kind in diffusers["down_block_types"]]
    depths = [depth * attends for depth, attends in zip(per_level(diffusers["transformer_layers_per_block"]), attends, strict=True)]
    return {
        "image_size": diffusers["sample_size"],
        "in_channels": diffusers["in_channels"],
        "out_channels": diffusers["out_channels"],
        "model_channels": channels[0],
        "channel_mult": [width // channels[0] for width in channels],
        "num_res_blocks": layers,
        # One entry a block. Going up, a level has one block more, and ComfyUI counts levels from the picture there too.
        "transformer_depth": [depth for depth, count in zip(depths, layers, strict=True) for _ in range(count)],
        "transformer_depth_output": [depth for depth, count in zip(depths, layers, strict=True) for _ in range(count + 1)],
        "transformer_depth_middle": per_level(diffusers["transformer_layers_per_block"])[-1],
        "use_spatial_transformer": True,
        "context_dim": diffusers["cross_attention_dim"],
        "num_heads": diffusers["attention_head_dim"],  # diffusers' old name for the number of heads
        "num_head_channels": -1,
        "use_linear_in_transformer": False,
        "adm_in_channels": None,
        "use_checkpoint": False,
        "use_temporal_attention": False,
        "use_temporal_resblock": False,
        "legacy": False,
    }


def vae_config(diffusers: dict[str, Any]) -> dict[str, Any]:
    """ComfyUI's AutoencoderKL arguments for the AutoencoderKL of these settings."""
    channels = diffusers["block_out_channels"]
    return {
        "embed_dim": diffusers["latent_channels"],
        "ddconfig": {
            "double_z": True,
            "z_channels": diffusers["latent_channels"],
            "resolution": diffusers["sample_size"],
            "in_channels": 3,
            "out_ch": 3,
            "ch": channels[0],
            "ch_mult": [width // channels[0] for width in channels],
            "num_res_blocks": diffusers["layers_per_block"],
            "attn_resolutions": [],
            "dropout": 0.0,
        },
    }
