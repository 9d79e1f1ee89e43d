"""Run by ComfyUI's own Python: what the sandbox, as the pack's loader hands it on, computes in ComfyUI.

Usage: sandbox.py FOLDER. In FOLDER, `prompts.json` holds a list of prompts, and `inputs.safetensors` "x" [N, 4, h, w] (noisy latents
in ComfyUI's scale), "sigma" [N], "pictures" [B, 3, H, W] in [0, 1] and "latents" [M, 4, h, w]. Written there are `answer.json` (token
ids of every prompt, how the names of the weights differ, whether copies are exact) and `outputs.safetensors` ("context.I" and "eps.I"
[N, 4, h, w] of prompt I, "encoded" and "decoded", all in the shapes of the inputs).
"""

# ruff: noqa: E402 - ComfyUI reads its command line when it is imported.

import json
import sys
from pathlib import Path

FOLDER = Path(sys.argv[1])

import pack  # isort: skip
import comfy.model_management
import torch
from comfy.model_patcher import ModelPatcher
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

checkpoint = pack.part("cad_engine.sandbox.checkpoint")
sandbox_model = pack.part("nodes.sandbox_model")

UNUSED = "text_projection.weight"
"""The checkpoint has none, as no Stable Diffusion 1.x does, and ComfyUI does not even initialise it."""


def difference(module: nn.Module, prefix: str, names: list[str]) -> dict[str, list[str]]:
    """Weights that the file lacks or has too many of, by the names that `module` gives them; ComfyUI only logs these."""
    ours = {name.removeprefix(prefix) for name in names if name.startswith(prefix)}
    theirs = set(module.state_dict())
    return {"missing": sorted(theirs - ours), "unexpected": sorted(ours - theirs)}


def copied_exactly(patcher: ModelPatcher) -> bool:
    """Whether a copy that ComfyUI makes, for another device or to have the weights resident, has the same weights in other memory."""
    ours, theirs = patcher.model.state_dict(), patcher.clone(force_deepcopy=True).model.state_dict()
    return ours.keys() == theirs.keys() and all(
        weight.data_ptr() != theirs[name].data_ptr() and (torch.equal(weight, theirs[name]) or name.endswith(UNUSED))
        for name, weight in ours.items()
    )


@torch.inference_mode()  # as in a node
def main() -> None:
    prompts = json.loads((FOLDER / "prompts.json").read_text(encoding="utf-8"))
    inputs = load_file(FOLDER / "inputs.safetensors")
    with safe_open(checkpoint.SANDBOX_FILE, "pt") as file:
        names = list(file.keys())
    patcher, clip, vae = sandbox_model.load_unet(), sandbox_model.load_clip(), sandbox_model.load_vae()
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
        "unet": difference(model.diffusion_model, "model.diffusion_model.", names),
        "text": difference(clip.cond_stage_model.clip_l, "cond_stage_model.", names),
        "vae": difference(vae.first_stage_model, "first_stage_model.", names),
        "copies": [
            copied_exactly(part)
            for part in (patcher, clip.patcher, vae.patcher)
            if hasattr(part, "cached_patcher_init")  # older versions share one model
        ],
    }
    (FOLDER / "answer.json").write_text(json.dumps(answer), encoding="utf-8")


main()
