"""Run by ComfyUI's own Python: attribution through the pack's denoiser against plain autograd on the effective weights.

Prints one JSON object: "family storage lora offload" -> the largest relative error over the layers.
"""

import json
import math
import sys
from typing import Any

import pack  # isort: skip
import comfy.model_management
import comfy.utils
import tiny
import torch
from torch import Tensor

denoiser = pack.part("nodes.denoiser")
attribution = pack.part("cad_engine.attribution")
components = pack.part("cad_engine.components")
concept = pack.part("cad_engine.concept")

SETTINGS = concept.ConceptSettings("concept", base="base", trajectories=2, steps=3, batch=2, components=("ff", "cross_attention"))


def sinusoid(value: float, width: int = 256) -> Tensor:
    """The embedding of a size or crop in SDXL."""
    angle = value * torch.exp(-math.log(10000) * torch.arange(width // 2) / (width // 2))
    return torch.cat([angle.cos(), angle.sin()])


def plain_scores(family: str, weights: dict[str, Tensor], objective: Any, context: Tensor, pooled: Tensor) -> dict[str, Tensor]:
    """w * dJ/dw of eq. 6 by plain autograd in float64 with the formulas written out."""
    with torch.inference_mode(False):
        unet = tiny.plain_unet(family, weights)
        betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
        alphas_cumprod = (1 - betas).cumprod(0)
        errors = []
        for target in objective.targets:
            x_t, a = target.x_t.double().clone(), alphas_cumprod[target.t]
            sample = x_t
            if family == "inpainting":
                blank = torch.tensor([0.8223, -0.6876, 0.6364, 0.1380], dtype=torch.float64).reshape(1, 4, 1, 1).expand_as(x_t)
                sample = torch.cat([x_t, torch.ones_like(x_t[:, :1]), blank], 1)
            y = None
            if family == "sdxl":
                side = 8 * tiny.SIDE
                sizes = torch.cat([sinusoid(value) for value in (side, side, 0, 0, side, side)])
                y = torch.cat([pooled[0], sizes]).double().expand(len(x_t), -1)
            t = torch.full((len(x_t),), target.t)
            output = unet(sample, t, context=context.double().clone().expand(len(x_t), -1, -1), y=y)
            eps = a.sqrt() * output + (1 - a).sqrt() * x_t if family == "sd2_v" else output
            errors.append((eps - target.eps.double()).square().flatten(1).mean(1))
        torch.cat(errors).mean().backward()
    return {f"diffusion_model.{name}": p.detach() * p.grad for name, p in unet.named_parameters() if p.grad is not None}


def case(family: str, storage: str, with_lora: bool, offloaded: bool) -> float:
    model = tiny.make(family, tiny.STORAGE[storage])
    stored = {name: p.detach().float() for name, p in model.model.diffusion_model.named_parameters()}
    names = components.choose_layers(denoiser_layers(model), SETTINGS.components)
    deltas: dict[str, Tensor] = {}
    if with_lora:
        patches, deltas = tiny.lora(model, names[::2])
        model = model.clone()
        assert len(model.add_patches(patches, 1.0)) == len(patches)
    conds = {text: tiny.conditioning(family, seed) for seed, text in enumerate(["concept", "base", ""])}

    def work(inside: Any) -> tuple[Any, dict[str, Tensor], dict[str, Tensor]]:
        objective = concept.concept_objective(inside, SETTINGS)
        scores, _ = attribution.attribution_scores(inside, objective, names, batch=2)
        effective = {name: p.detach().float() for name, p in model.model.diffusion_model.named_parameters()}
        return objective, scores, effective

    objective, scores, effective = denoiser.run(
        model, conds, work, size=(tiny.SIDE, tiny.SIDE), batch=2, sums=sum(delta.numel() for delta in deltas.values())
    )
    kept = {name for name in stored if torch.equal(effective[name], stored[name])}
    patched = {name.removeprefix("diffusion_model.") for name in deltas}
    # A loaded weight has its patches in it; an offloaded one stays as it is stored, and a patch is added whenever it is used.
    assert bool(patched & kept) == (offloaded and with_lora)
    assert bool(patched - kept) == with_lora
    effective = {name: effective[name] + (deltas.get(f"diffusion_model.{name}", 0) if name in kept else 0) for name in stored}
    context, extra = conds["concept"][0]
    expected = plain_scores(family, effective, objective, context, extra["pooled_output"])
    return max(float((scores[name].double() - expected[name]).norm() / expected[name].norm()) for name in names)


def offload_a_part() -> None:
    """ComfyUI offloads nothing from a CPU unless it is given a budget, as here: four fifths of each model, the largest layers first."""
    loaded_model = comfy.model_management.LoadedModel
    load = loaded_model.model_load
    loaded_model.model_load = lambda self, budget=0, force_patch_weights=False: load(
        self, self.model_memory() * 4 // 5, force_patch_weights
    )


def denoiser_layers(model: Any) -> list[str]:
    return list(pack.part("nodes.patch").layer_shapes(model))


@torch.inference_mode()  # as in a node
def main() -> None:
    answer = {}
    for offloaded in (False, True):
        if offloaded:
            offload_a_part()
        for family in tiny.FAMILIES:
            for storage in tiny.STORAGE:
                for with_lora in (False, True):
                    comfy.model_management.unload_all_models()
                    answer[f"{family} {storage} {'lora' if with_lora else 'plain'} {'offloaded' if offloaded else 'loaded'}"] = case(
                        family, storage, with_lora, offloaded
                    )
    print(json.dumps(answer))


if __name__ == "__main__":
    sys.exit(main())
