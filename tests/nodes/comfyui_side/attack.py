"""Run by ComfyUI's own Python: the attack through the pack's denoiser against plain PyTorch with the formulas written out.

Prints one JSON object: "family storage" -> [largest relative error of the losses, relative error of the embedding that was found, how far
the embedding went in its own norms, whether the model's weights are unchanged].
"""

import json
import sys
from typing import Any

import pack  # isort: skip
import comfy.model_management
import gradients
import tiny
import torch
from torch import Tensor

attack = pack.part("cad_engine.audit.attack")
denoiser = pack.part("nodes.denoiser")

ITERATIONS, PICTURES, STEPS = 6, 2, 2


def plain_attack(family: str, weights: dict[str, Tensor], states: Any, start: Tensor, pooled: Tensor) -> tuple[list[float], Tensor]:
    """Losses and embedding of the same attack by Adam and plain autograd in float64, with all states in every iteration."""
    with torch.inference_mode(False), torch.enable_grad():
        unet = tiny.plain_unet(family, weights)
        betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
        a = (1 - betas).cumprod(0)[states.t].reshape(-1, 1, 1, 1)
        x_t, expected = states.x_t.double().clone(), states.eps.double().clone()
        sample, y = x_t, None
        if family == "inpainting":
            blank = torch.tensor([0.8223, -0.6876, 0.6364, 0.1380], dtype=torch.float64).reshape(1, 4, 1, 1).expand_as(x_t)
            sample = torch.cat([x_t, torch.ones_like(x_t[:, :1]), blank], 1)
        if family == "sdxl":
            side = 8 * tiny.SIDE
            sizes = torch.cat([gradients.sinusoid(value) for value in (side, side, 0, 0, side, side)])
            y = torch.cat([pooled[0].clone(), sizes]).double().expand(len(x_t), -1)
        found = start.double().clone().requires_grad_()
        optimiser = torch.optim.Adam([found], lr=0.375 * float(start.std()))
        rate = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, ITERATIONS)
        losses = []
        for _ in range(ITERATIONS):
            output = unet(sample, states.t, context=found.expand(len(x_t), -1, -1), y=y)
            eps = a.sqrt() * output + (1 - a).sqrt() * x_t if family == "sd2_v" else output
            loss = (eps - expected).square().mean()
            (found.grad,) = torch.autograd.grad(loss, [found])
            optimiser.step()
            rate.step()
            losses.append(float(loss.detach()))
        return losses, found.detach()


def case(family: str, storage: str) -> list[float | bool]:
    model = tiny.make(family, tiny.STORAGE[storage])
    weights = {name: p.detach().float().clone() for name, p in model.model.diffusion_model.named_parameters()}
    conds = {text: tiny.conditioning(family, seed) for seed, text in enumerate(["concept", "base", ""])}

    def work(inside: Any) -> tuple[Any, Any, Tensor]:
        states = attack.attack_states(inside, "concept", 0, PICTURES, steps=STEPS, cfg=3.0, batch=2)
        start = inside.encode_prompt("base")
        found = attack.attack(inside, start, states, iterations=ITERATIONS, batch=len(states.t), seed=0, checkpointing=family == "sdxl")
        return states, found.losses, inside.embedding(found.conditioning)

    states, losses, found = denoiser.run(model, conds, work, size=(tiny.SIDE, tiny.SIDE), batch=4, sums=0)
    context, extra = conds["base"][0]
    expected, plain = plain_attack(family, weights, states, context, extra["pooled_output"])
    worst = max(abs(one / other - 1) for one, other in zip(losses, expected, strict=True))
    went = float((plain - context.double()).norm() / context.double().norm())
    same = all(torch.equal(p.detach().float(), weights[name]) for name, p in model.model.diffusion_model.named_parameters())
    return [worst, float((found.double() - plain).norm() / plain.norm()), went, same]


@torch.inference_mode()  # as in a node
def main() -> None:
    answer = {}
    for family in tiny.FAMILIES:
        for storage in ("fp32", "fp8"):
            comfy.model_management.unload_all_models()
            answer[f"{family} {storage}"] = case(family, storage)
    print(json.dumps(answer))


sys.exit(main())
