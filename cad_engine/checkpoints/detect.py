"""What a single-file checkpoint is, told from the names and shapes of its weights."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from ..errors import CadError, first_line, shown
from ..sandbox.checkpoint import METADATA_KEY, parse_config
from ..schedule import Prediction
from .clip_tokenizer import build_tokenizer, clip_tokenizer
from .reader import CheckpointFile, Shape
from .text import TextEncoder

Family = Literal["sd1", "sd2", "sdxl", "sandbox"]

SUPPORTED = "Stable Diffusion 1.x, 2.x and XL (base and inpainting), and the sandbox"

UNET_PREFIXES = ("model.diffusion_model.", "diffusion_model.", "")
VAE_PREFIX = "first_stage_model."

_HEAD_WIDTH = 64  # of CLIP's text models, and of the UNets of SD 2.x and XL
_SD1_HEADS = 8
_TIME_IDS = 6  # numbers of SDXL's size and crop conditioning
_TIME_ID_WIDTH = 256
_VIT_H_LAYERS_USED = 23
"""SD 2.x is conditioned on the last but one of ViT-H's 24 layers, so the last is not loaded."""

_V_PREDICTION_STD = 0.09
_V_PREDICTION_NAME = "output_blocks.11.1.transformer_blocks.0.norm1.bias"
"""SD 2.x files do not say what they predict; v-prediction models have a wider spread in this bias (ComfyUI's rule)."""

_STRANGERS = (
    # (part of a weight's name, what it belongs to); looked through in this order when no supported UNet is found.
    ("joint_blocks.", "Stable Diffusion 3"),
    ("double_blocks.", "Flux or a relative of it"),
    ("single_transformer_blocks.", "a Flux transformer in diffusers' names"),
    ("double_layers.", "AuraFlow"),
    ("clf.1.weight", "Stable Cascade"),
    ("lora_", "a LoRA, which goes on top of a checkpoint"),
    (".lora", "a LoRA, which goes on top of a checkpoint"),
    ("lokr_", "a LoKr adapter"),
    ("hada_", "a LoHa adapter"),
    ("control_model.", "a ControlNet"),
    ("zero_convs.", "a ControlNet"),
    ("emb_params", "a textual-inversion embedding"),
    ("down_blocks.", "weights in diffusers' names, which are loaded as a folder with model_index.json"),
    ("decoder.up.", "an autoencoder without a UNet"),
    ("text_model.", "a text encoder without a UNet"),
    ("blocks.", "a diffusion transformer"),
)


@dataclass(frozen=True)
class Architecture:
    """What is in a checkpoint and how to build it.

    Attributes:
        family: the kind of model.
        prediction: what its UNet predicts.
        zero_terminal_snr: whether its schedule ends in pure noise.
        unet_prefix: what comes before the UNet's weights' names.
        unet: settings of UNet2DConditionModel.
        vae: settings of AutoencoderKL, None when the file has no autoencoder.
        text: its text encoders in the pipeline's order, empty when one is missing.
    """

    family: Family
    prediction: Prediction
    zero_terminal_snr: bool
    unet_prefix: str
    unet: dict[str, Any]
    vae: dict[str, Any] | None
    text: tuple[TextEncoder, ...]


def detect(file: CheckpointFile) -> Architecture:
    """Recognise `file`; CadError says what it is, as far as it can be told, when it is not supported."""
    try:
        return _sandbox(file) if METADATA_KEY in file.metadata else _stable_diffusion(file)
    except (KeyError, IndexError, TypeError, ValueError) as error:
        if isinstance(error, CadError):
            raise
        # A weight that the layout needs is missing or of the wrong rank.
        raise _refusal(file, f"damaged, or of an unknown layout ({first_line(error)})") from error


def _stable_diffusion(file: CheckpointFile) -> Architecture:
    prefix = next((prefix for prefix in UNET_PREFIXES if f"{prefix}input_blocks.0.0.weight" in file.shapes), None)
    if prefix is None:
        raise _refusal(file, _stranger(file.shapes))
    unet = {name.removeprefix(prefix): shape for name, shape in file.shapes.items() if name.startswith(prefix)}
    _refuse_relatives(file, unet)
    config = _unet_config(file, unet)
    family: Family = "sd1"
    if config["use_linear_projection"]:
        family = "sdxl" if "addition_embed_type" in config else "sd2"
    v_prediction = "v_pred" in file.shapes if family == "sdxl" else family == "sd2" and _sd2_predicts_v(file, prefix, unet)
    config["sample_size"] = 128 if family == "sdxl" else 96 if v_prediction else 64
    return Architecture(
        family=family,
        prediction="v_prediction" if v_prediction else "epsilon",
        zero_terminal_snr="ztsnr" in file.shapes,
        unet_prefix=prefix,
        unet=config,
        vae=_vae_config(file.shapes, 0.13025 if family == "sdxl" else 0.18215),
        text=_text_encoders(file.shapes, family),
    )


def _refusal(file: CheckpointFile, found: str) -> CadError:
    return CadError(f"{file.path}: this is {found}; supported are {SUPPORTED}")


def _stranger(names: Mapping[str, Shape]) -> str:
    for part, what in _STRANGERS:
        if any(part in name for name in names):
            return what
    return f"no model that is known here (its first weight is {shown(min(names))})" if names else "an empty file"


def _refuse_relatives(file: CheckpointFile, unet: Mapping[str, Shape]) -> None:
    """Refuse the models that share Stable Diffusion's UNet names but are conditioned or sampled in other ways."""
    channels = unet["input_blocks.0.0.weight"][1]
    context = next((shape[1] for name, shape in unet.items() if name.endswith("attn2.to_k.weight")), None)
    label = unet.get("label_emb.0.0.weight")
    if any(".time_stack." in name or ".time_mixer." in name for name in unet):
        raise _refusal(file, "a video model (Stable Video Diffusion)")
    if context is None:
        raise _refusal(file, "a UNet without cross-attention")
    if label is not None and label[1] == 2560 and context == 1280:
        raise _refusal(file, "the SDXL refiner")
    if label is not None and context == 1024:
        raise _refusal(file, "Stable Diffusion 2.1 unCLIP")
    if "edm_mean" in file.shapes or "edm_vpred.sigma_max" in file.shapes:
        raise _refusal(file, "an SDXL with an EDM noise schedule (Playground 2.5, CosXL)")
    if channels not in (4, 9):
        raise _refusal(file, f"a UNet with {channels} input channels (4 and, for inpainting, 9 are known)")


def _depths(unet: Mapping[str, Shape]) -> dict[str, int]:
    """The number of transformer blocks by "input_blocks.1", "middle_block" and so on."""
    numbers: dict[str, set[int]] = {}
    for name in unet:
        if found := re.match(r"((?:input|output)_blocks\.\d+|middle_block)\.1\.transformer_blocks\.(\d+)\.", name):
            numbers.setdefault(found[1], set()).add(int(found[2]))
    return {block: _length(found) for block, found in numbers.items()}


def _levels(file: CheckpointFile, unet: Mapping[str, Shape], depths: Mapping[str, int]) -> list[list[tuple[int, int]]]:
    """For every resolution, (channels, transformer depth) of each of its residual blocks on the way down."""
    levels: list[list[tuple[int, int]]] = [[]]
    block = 1
    while True:
        name = f"input_blocks.{block}"
        if f"{name}.0.op.weight" in unet:
            levels.append([])
        elif f"{name}.0.out_layers.3.weight" in unet:
            levels[-1].append((unet[f"{name}.0.out_layers.3.weight"][0], depths.get(name, 0)))
        else:
            break
        block += 1
    if any(len(set(level)) != 1 for level in levels):
        raise _refusal(file, "a UNet whose blocks differ within one resolution (a pruned or unknown model)")
    return levels


def _unet_config(file: CheckpointFile, unet: Mapping[str, Shape]) -> dict[str, Any]:
    """Settings of UNet2DConditionModel but for sample_size."""
    depths = _depths(unet)
    levels = _levels(file, unet, depths)
    layers = [len(level) for level in levels]
    channels = [level[0][0] for level in levels]
    depth = [level[0][1] for level in levels]
    middle = depths.get("middle_block", 0)
    if middle == 0 or depth[-1] not in (0, middle):
        raise _refusal(file, f"a UNet with {middle} transformer blocks in the middle (a pruned model such as SSD-1B, Vega or KOALA)")
    attends = [count > 0 for count in depth]
    context = next(shape[1] for name, shape in unet.items() if name.endswith("attn2.to_k.weight"))
    linear = len(unet["middle_block.1.proj_in.weight"]) == 2
    if linear and any(count % _HEAD_WIDTH for count in channels):
        raise _refusal(file, f"a UNet whose channels {channels} do not divide into attention heads of {_HEAD_WIDTH}")
    config: dict[str, Any] = {
        "in_channels": unet["input_blocks.0.0.weight"][1],
        "out_channels": unet["out.2.weight"][0] if "out.2.weight" in unet else 4,
        "block_out_channels": channels,
        # diffusers' LoRA converter wants the plain number that every published model has.
        "layers_per_block": layers[0] if len(set(layers)) == 1 else layers,
        "down_block_types": ["CrossAttnDownBlock2D" if yes else "DownBlock2D" for yes in attends],
        "up_block_types": ["CrossAttnUpBlock2D" if yes else "UpBlock2D" for yes in reversed(attends)],
        # diffusers gives the middle block the last level's depth.
        "transformer_layers_per_block": [max(count, 1) for count in depth[:-1]] + [middle],
        "cross_attention_dim": context,
        # diffusers' old name for the number of heads.
        "attention_head_dim": [count // _HEAD_WIDTH for count in channels] if linear else _SD1_HEADS,
        "use_linear_projection": linear,
    }
    if "label_emb.0.0.weight" in unet:
        config |= {
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": _TIME_ID_WIDTH,
            "projection_class_embeddings_input_dim": unet["label_emb.0.0.weight"][1],
        }
    return config


def _sd2_predicts_v(file: CheckpointFile, prefix: str, unet: Mapping[str, Shape]) -> bool:
    if unet["input_blocks.0.0.weight"][1] != 4 or _V_PREDICTION_NAME not in unet:  # SD 2 inpainting predicts eps
        return False
    bias = file.tensor(prefix + _V_PREDICTION_NAME, unet[_V_PREDICTION_NAME])
    return bias.float().std(correction=0).item() > _V_PREDICTION_STD


def _count(names: Mapping[str, Shape], pattern: str) -> int:
    """One more than the highest number that the group of `pattern` matches at the start of a name, 0 when none matches."""
    numbers = {int(found[1]) for name in names if (found := re.match(pattern, name))}
    return _length(numbers)


def _length(numbers: set[int]) -> int:
    """One more than the highest of `numbers`, which must be 0, 1, ... without a gap: a name alone must not make a huge model."""
    if numbers and max(numbers) != len(numbers) - 1:
        raise ValueError(f"layers are numbered up to {max(numbers)} and there are {len(numbers)}")
    return len(numbers)


def _vae_config(shapes: Mapping[str, Shape], scaling_factor: float) -> dict[str, Any] | None:
    vae = {name.removeprefix(VAE_PREFIX): shape for name, shape in shapes.items() if name.startswith(VAE_PREFIX)}
    levels = _count(vae, r"encoder\.down\.(\d+)\.block\.0\.conv1\.weight")
    if levels == 0 or "decoder.conv_in.weight" not in vae:
        return None
    return {
        "block_out_channels": [vae[f"encoder.down.{level}.block.0.conv1.weight"][0] for level in range(levels)],
        "down_block_types": ["DownEncoderBlock2D"] * levels,
        "up_block_types": ["UpDecoderBlock2D"] * levels,
        "layers_per_block": _count(vae, r"encoder\.down\.0\.block\.(\d+)\."),
        "latent_channels": vae["decoder.conv_in.weight"][1],
        "scaling_factor": scaling_factor,
    }


def _clip(shapes: Mapping[str, Shape], prefix: str) -> TextEncoder | None:
    """OpenAI's CLIP under `prefix`, with or without "text_model." in its names."""
    if f"{prefix}text_model.embeddings.token_embedding.weight" in shapes:
        prefix += "text_model."
    tokens = shapes.get(f"{prefix}embeddings.token_embedding.weight")
    positions = shapes.get(f"{prefix}embeddings.position_embedding.weight")
    inner = shapes.get(f"{prefix}encoder.layers.0.mlp.fc1.weight")
    if tokens is None or positions is None or inner is None:
        return None
    layers = _count(shapes, re.escape(prefix) + r"encoder\.layers\.(\d+)\.")
    config = _text_config(tokens, positions[0], inner[0], layers, "quick_gelu")
    return TextEncoder(prefix, "huggingface", config, projected=False, make_tokenizer=clip_tokenizer)


def _open_clip(shapes: Mapping[str, Shape], prefix: str, layers_used: int | None, projected: bool) -> TextEncoder | None:
    """OpenCLIP's text model under `prefix`; of its layers the first `layers_used`, or all."""
    tokens = shapes.get(f"{prefix}token_embedding.weight")
    positions = shapes.get(f"{prefix}positional_embedding")
    inner = shapes.get(f"{prefix}transformer.resblocks.0.mlp.c_fc.weight")
    if tokens is None or positions is None or inner is None:
        return None
    layers = _count(shapes, re.escape(prefix) + r"transformer\.resblocks\.(\d+)\.")
    config = _text_config(tokens, positions[0], inner[0], min(layers, layers_used or layers), "gelu")
    if projected:
        projection = shapes.get(f"{prefix}text_projection", shapes.get(f"{prefix}text_projection.weight"))
        if projection is None:
            return None
        config["projection_dim"] = projection[1]
    return TextEncoder(prefix, "openclip", config, projected, partial(clip_tokenizer, zero_pad=True))


def _text_config(tokens: Shape, positions: int, inner: int, layers: int, activation: str) -> dict[str, Any]:
    vocabulary, width = tokens
    return {
        "vocab_size": vocabulary,
        "hidden_size": width,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": max(1, width // _HEAD_WIDTH),
        "max_position_embeddings": positions,
        "hidden_act": activation,
        "projection_dim": width,
        "bos_token_id": vocabulary - 2,
        "eos_token_id": vocabulary - 1,
        "pad_token_id": vocabulary - 1,
    }


def _text_encoders(shapes: Mapping[str, Shape], family: Family) -> tuple[TextEncoder, ...]:
    """The text encoders of `family`, or none when any is missing."""
    found: list[TextEncoder | None]
    if family == "sd1":
        found = [_clip(shapes, "cond_stage_model.transformer.")]
    elif family == "sd2":
        prefixes = ("cond_stage_model.model.", "conditioner.embedders.0.model.")
        encoders = (_open_clip(shapes, prefix, _VIT_H_LAYERS_USED, projected=False) for prefix in prefixes)
        found = [next((encoder for encoder in encoders if encoder), None)]
    else:
        found = [
            _clip(shapes, "conditioner.embedders.0.transformer."),
            _open_clip(shapes, "conditioner.embedders.1.model.", None, projected=True),
        ]
    present = tuple(encoder for encoder in found if encoder)
    return present if len(present) == len(found) else ()


def _sandbox(file: CheckpointFile) -> Architecture:
    config = parse_config(file)
    length = config.text["max_position_embeddings"]
    encoder = TextEncoder(
        prefix="cond_stage_model.transformer.text_model.",
        layout="huggingface",
        config=config.text,
        projected=False,
        make_tokenizer=partial(build_tokenizer, config.vocab, config.merges, length),
    )
    return Architecture("sandbox", "epsilon", False, UNET_PREFIXES[0], config.unet, config.vae, (encoder,))
