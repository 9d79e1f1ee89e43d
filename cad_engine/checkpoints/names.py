"""Names of weights: checkpoint (original Stable Diffusion) names against diffusers' names, generated from a model's configuration.

Both call the same modules differently: "input_blocks.1.1" is "down_blocks.0.attentions.0". Below such a module the names agree,
so a map of modules names every weight. Checkpoint names here have no prefix: what a file calls
"model.diffusion_model.input_blocks.0.0.weight" is "input_blocks.0.0.weight".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MODEL_PREFIX = "diffusion_model."
"""What this project's files put before a UNet weight's checkpoint name, as ComfyUI's patcher does."""

_RESNET = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}
_VAE_RESNET = {"norm1": "norm1", "conv1": "conv1", "norm2": "norm2", "conv2": "conv2", "nin_shortcut": "conv_shortcut"}
_VAE_ATTENTION = {"norm": "group_norm", "q": "to_q", "k": "to_k", "v": "to_v", "proj_out": "to_out.0"}


def _nested(inner: Mapping[str, str], checkpoint: str, diffusers: str) -> dict[str, str]:
    return {f"{checkpoint}.{theirs}": f"{diffusers}.{ours}" for theirs, ours in inner.items()}


def unet_modules(config: Mapping[str, Any]) -> dict[str, str]:
    """{checkpoint module: diffusers module} of the UNet2DConditionModel with `config`, parents of every weight it may have."""
    levels = len(config["block_out_channels"])
    layers = config["layers_per_block"]
    layers = [layers] * levels if isinstance(layers, int) else list(layers)
    names = {
        "time_embed.0": "time_embedding.linear_1",
        "time_embed.2": "time_embedding.linear_2",
        "label_emb.0.0": "add_embedding.linear_1",
        "label_emb.0.2": "add_embedding.linear_2",
        "input_blocks.0.0": "conv_in",
        "out.0": "conv_norm_out",
        "out.2": "conv_out",
        **_nested(_RESNET, "middle_block.0", "mid_block.resnets.0"),
        "middle_block.1": "mid_block.attentions.0",
        **_nested(_RESNET, "middle_block.2", "mid_block.resnets.1"),
    }
    block = 1
    for level, kind in enumerate(config["down_block_types"]):
        for layer in range(layers[level]):
            names |= _nested(_RESNET, f"input_blocks.{block}.0", f"down_blocks.{level}.resnets.{layer}")
            if kind.startswith("CrossAttn"):
                names[f"input_blocks.{block}.1"] = f"down_blocks.{level}.attentions.{layer}"
            block += 1
        if level < levels - 1:
            names[f"input_blocks.{block}.0.op"] = f"down_blocks.{level}.downsamplers.0.conv"
            block += 1
    block = 0
    for level, kind in enumerate(config["up_block_types"]):
        attends = kind.startswith("CrossAttn")
        for layer in range(layers[levels - 1 - level] + 1):
            names |= _nested(_RESNET, f"output_blocks.{block}.0", f"up_blocks.{level}.resnets.{layer}")
            if attends:
                names[f"output_blocks.{block}.1"] = f"up_blocks.{level}.attentions.{layer}"
            block += 1
        if level < levels - 1:
            # The upsampler shares the level's last block, after the attention where there is one.
            names[f"output_blocks.{block - 1}.{2 if attends else 1}.conv"] = f"up_blocks.{level}.upsamplers.0.conv"
    return names


def vae_modules(config: Mapping[str, Any]) -> dict[str, str]:
    """{checkpoint module: diffusers module} of the AutoencoderKL with `config`, parents of every weight it has."""
    levels = len(config["block_out_channels"])
    layers = config["layers_per_block"]
    names = {"quant_conv": "quant_conv", "post_quant_conv": "post_quant_conv"}
    for half in ("encoder", "decoder"):
        names |= {f"{half}.{part}": f"{half}.{part}" for part in ("conv_in", "conv_out")}
        names[f"{half}.norm_out"] = f"{half}.conv_norm_out"
        for i in range(2):
            names |= _nested(_VAE_RESNET, f"{half}.mid.block_{i + 1}", f"{half}.mid_block.resnets.{i}")
        names |= _nested(_VAE_ATTENTION, f"{half}.mid.attn_1", f"{half}.mid_block.attentions.0")
    for level in range(levels):
        for layer in range(layers):
            names |= _nested(_VAE_RESNET, f"encoder.down.{level}.block.{layer}", f"encoder.down_blocks.{level}.resnets.{layer}")
        names[f"encoder.down.{level}.downsample.conv"] = f"encoder.down_blocks.{level}.downsamplers.0.conv"
        # Checkpoints count the decoder's levels from the picture, diffusers from the latent.
        theirs, ours = f"decoder.up.{levels - 1 - level}", f"decoder.up_blocks.{level}"
        for layer in range(layers + 1):
            names |= _nested(_VAE_RESNET, f"{theirs}.block.{layer}", f"{ours}.resnets.{layer}")
        names[f"{theirs}.upsample.conv"] = f"{ours}.upsamplers.0.conv"
    return names


def inverse(modules: Mapping[str, str]) -> dict[str, str]:
    """The same map from diffusers' names to the checkpoint's."""
    return {diffusers: checkpoint for checkpoint, diffusers in modules.items()}


def rename(name: str, modules: Mapping[str, str]) -> str:
    """`name` of a weight or module with the longest parent that `modules` knows replaced; KeyError when it knows none."""
    head, tail = name, ""
    while head not in modules:
        head, dot, last = head.rpartition(".")
        if not dot:
            raise KeyError(name)
        tail = f".{last}{tail}"
    return modules[head] + tail
