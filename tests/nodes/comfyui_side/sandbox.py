"""Run by ComfyUI's own Python: what the sandbox, as the pack's loader hands it on, computes in ComfyUI.

Usage: sandbox.py FOLDER. In FOLDER, `prompts.json` holds a list of prompts, and `inputs.safetensors` "x" [N, 4, h, w] (noisy latents
in ComfyUI's scale), "sigma" [N], "pictures" [B, 3, H, W] in [0, 1] and "latents" [M, 4, h, w]. Written there are `answer.json` (token
ids of every prompt, and how the names of the weights differ) and `outputs.safetensors` ("context.I" and "eps.I" [N, 4, h, w] of
prompt I, "encoded" and "decoded", all in the shapes of the inputs).
"""

# ruff: noqa: E402 - ComfyUI reads its command line when it is imported.

import json
import sys
from pathlib import Path

FOLDER = Path(sys.argv[1])

import pack  # isort: skip
import comfy.model_management
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

checkpoint = pack.part("cad_engine.sandbox.checkpoint")
sandbox_model = pack.part("nodes.sandbox_model")


def difference(module: nn.Module, prefix: str, names: list[str]) -> dict[str, list[str]]:
    """Weights that the file lacks or has too many of, by the names that `module` gives them; ComfyUI only logs these."""
    ours = {name.removeprefix(prefix) for name in names if name.startswith(prefix)}
    theirs = set(module.state_dict())
    return {"missing": sorted(theirs - ours), "unexpected": sorted(ours - theirs)}


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
    }
    (FOLDER / "answer.json").write_text(json.dumps(answer), encoding="utf-8")


main()
