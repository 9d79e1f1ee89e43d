"""Run by ComfyUI's own Python: load a sandbox checkpoint with ComfyUI's classes and compute with them.

Usage: comfyui_side.py CHECKPOINT FOLDER. In FOLDER, `tokenizer/` holds the tokenizer's files, `prompts.json` a list of prompts, and
`inputs.safetensors` "x" [N, 4, h, w] (noisy latents in ComfyUI's scale), "sigma" [N], "pictures" [B, 3, H, W] in [0, 1] and
"latents" [M, 4, h, w]. Written there are `answer.json` (token ids of every prompt, and how the names of the weights differ) and
`outputs.safetensors` ("context.I" and "eps.I" [N, 4, h, w] of prompt I, "encoded" and "decoded", all in the shapes of the inputs).
"""

# ruff: noqa: E402 - ComfyUI reads its command line when it is imported.

import functools
import inspect
import json
import logging
import sys
from pathlib import Path
from typing import Any

CHECKPOINT, FOLDER = Path(sys.argv[1]), Path(sys.argv[2])
sys.argv = [sys.argv[0], "--cpu"]

import comfy.options

comfy.options.enable_args_parsing()

import comfy.clip_model
import comfy.model_base
import comfy.model_management
import comfy.model_patcher
import comfy.sd
import comfy.sd1_clip
import comfy.supported_models
import comfy.supported_models_base
import comfy.utils
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn


class Sandbox(comfy.supported_models.SD15):
    """Stable Diffusion 1.x of another size: what SD15 says of its sampling, latents and names holds here too."""

    unet_config: dict[str, Any] = {}  # noqa: RUF012 - declared so by the base class
    unet_extra_config: dict[str, Any] = {}  # noqa: RUF012


class SmallVocabulary(comfy.clip_model.CLIPTextModel):
    """CLIP's text model with as many token embeddings as its settings say; ComfyUI's own always has OpenAI's 49,408."""

    def __init__(self, config_dict: dict[str, Any], dtype: torch.dtype, device: torch.device, operations: Any) -> None:
        super().__init__(config_dict, dtype, device, operations)
        self.text_model.embeddings.token_embedding = operations.Embedding(
            config_dict["vocab_size"], config_dict["hidden_size"], dtype=dtype, device=device
        )


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


def load_unet(model_config: Sandbox, weights: dict[str, Tensor]) -> comfy.model_patcher.ModelPatcher:
    """The UNet, in the patcher that nodes pass on as MODEL."""
    prefix = "model.diffusion_model."
    device = comfy.model_management.get_torch_device()
    model_config.set_inference_dtype(torch.float32, None)
    model = comfy.model_base.BaseModel(model_config, comfy.model_base.ModelType.EPS, comfy.model_management.unet_offload_device())
    # Older versions have one kind of patcher, newer ones choose between two when they start.
    kind = getattr(comfy.model_patcher, "CoreModelPatcher", comfy.model_patcher.ModelPatcher)
    patcher = kind(model, load_device=device, offload_device=comfy.model_management.unet_offload_device())
    assign = {"assign": patcher.is_dynamic()} if hasattr(patcher, "is_dynamic") else {}
    model.load_model_weights({name: weight for name, weight in weights.items() if name.startswith(prefix)}, prefix, **assign)
    return patcher


def load_clip(model_config: Sandbox, config: dict[str, Any], tokenizer: Path, weights: dict[str, Tensor]) -> comfy.sd.CLIP:
    """The text encoder with its tokenizer, as nodes pass it on as CLIP."""
    length = config["max_position_embeddings"]
    target = comfy.supported_models_base.ClipTarget(
        functools.partial(
            comfy.sd1_clip.SD1Tokenizer,
            tokenizer=functools.partial(
                comfy.sd1_clip.SDTokenizer, tokenizer_path=str(tokenizer), max_length=length, embedding_size=config["hidden_size"]
            ),
        ),
        functools.partial(
            comfy.sd1_clip.SD1ClipModel,
            clip_model=functools.partial(
                comfy.sd1_clip.SDClipModel,
                max_length=length,
                textmodel_json_config=config,
                model_class=SmallVocabulary,
                special_tokens={"start": config["bos_token_id"], "end": config["eos_token_id"], "pad": config["pad_token_id"]},
                return_projected_pooled=False,  # the checkpoint has no projection
            ),
        ),
    )
    weights = model_config.process_clip_state_dict(dict(weights))
    settings = {"parameters": sum(weight.numel() for weight in weights.values())}
    if "state_dict" in inspect.signature(comfy.sd.CLIP).parameters:
        return comfy.sd.CLIP(target, state_dict=weights, **settings)
    clip = comfy.sd.CLIP(target, **settings)
    clip.load_sd(weights, full_model=True)
    return clip


def load_vae(config: dict[str, Any], weights: dict[str, Tensor]) -> comfy.sd.VAE:
    """The autoencoder, as nodes pass it on as VAE."""
    weights = comfy.utils.state_dict_prefix_replace(dict(weights), {"first_stage_model.": ""}, filter_keys=True)
    return comfy.sd.VAE(sd=weights, config={"params": vae_config(config)}, dtype=torch.float32)


def difference(module: nn.Module, prefix: str, weights: dict[str, Tensor]) -> dict[str, list[str]]:
    """Weights that the file lacks or has too many of, by the names that `module` gives them; ComfyUI only logs these."""
    ours = {name.removeprefix(prefix) for name in weights if name.startswith(prefix)}
    theirs = set(module.state_dict())
    return {"missing": sorted(theirs - ours), "unexpected": sorted(ours - theirs)}


@torch.inference_mode()  # as in a node
def main() -> None:
    logging.basicConfig(level=logging.INFO)
    prompts = json.loads((FOLDER / "prompts.json").read_text(encoding="utf-8"))
    inputs = load_file(FOLDER / "inputs.safetensors")
    with safe_open(CHECKPOINT, "pt") as file:
        config = json.loads(file.metadata()["cad_sandbox"])
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    model_config = Sandbox(unet_config(config["unet"]))
    patcher = load_unet(model_config, weights)
    clip = load_clip(model_config, config["text"], FOLDER / "tokenizer", weights)
    vae = load_vae(config["vae"], weights)
    comfy.model_management.load_models_gpu([patcher])
    model = patcher.model

    tokens = [clip.tokenize(prompt) for prompt in prompts]
    outputs = {}
    x, sigma = inputs["x"], inputs["sigma"]
    for index, prompt_tokens in enumerate(tokens):
        context = clip.encode_from_tokens(prompt_tokens)
        x_0 = model.apply_model(x, sigma, c_crossattn=context.expand(len(x), -1, -1))
        outputs[f"context.{index}"] = context
        outputs[f"eps.{index}"] = (x - x_0) / sigma.reshape(-1, 1, 1, 1)
    # ComfyUI's pictures have their channels last.
    outputs["encoded"] = model.process_latent_in(vae.encode(inputs["pictures"].movedim(1, -1)))
    outputs["decoded"] = vae.decode(model.process_latent_out(inputs["latents"])).movedim(-1, 1)
    save_file({name: tensor.contiguous() for name, tensor in outputs.items()}, FOLDER / "outputs.safetensors")
    answer = {
        "tokens": [[[token for token, _ in chunk] for chunk in chunks["l"]] for chunks in tokens],
        "unet": difference(model.diffusion_model, "model.diffusion_model.", weights),
        "text": difference(clip.cond_stage_model.clip_l, "cond_stage_model.", weights),
        "vae": difference(vae.first_stage_model, "first_stage_model.", weights),
    }
    (FOLDER / "answer.json").write_text(json.dumps(answer), encoding="utf-8")


main()
