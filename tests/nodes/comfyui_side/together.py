"""Run by ComfyUI's own Python: a batch whose samples have prompts of their own, against the same samples one by one.

Prints one JSON object: "errors" ("family run" -> the largest relative error of a sample's eps, of the gradients of the key and value
matrices, and how much the prompts matter), "refused" (what is said of a prompt with a schedule).
"""

import json
import sys
from typing import Any

import pack  # isort: skip
import comfy.model_management
import tiny
import torch
from torch import Tensor

accumulator = pack.part("cad_engine.accumulator")
components = pack.part("cad_engine.components")
denoiser = pack.part("nodes.denoiser")
errors = pack.part("cad_engine.errors")
gradients = pack.part("cad_engine.gradients")

LENGTHS = {"equal": (7, 7, 7, 7), "unlike": (7, 14, 21, 7)}
"""Tokens of each sample's prompt; CLIP's are multiples of 77."""
TIMES = (20, 250, 600, 999)


def prompts(family: str, lengths: tuple[int, ...]) -> dict[str, list[Any]]:
    """What CLIPTextEncode would give of prompts "0", "1" ... with so many tokens, of random numbers."""
    conds = {}
    for seed, length in enumerate(lengths):
        ((context, extra),) = tiny.conditioning(family, seed)
        generator = torch.Generator().manual_seed(100 + seed)
        conds[str(seed)] = [[torch.randn(1, length, context.shape[2], generator=generator), extra]]
    return conds


def relative(actual: Tensor, expected: Tensor) -> float:
    """The largest relative error of a sample, or matrix."""
    return float(((actual - expected).flatten(1).norm(dim=1) / expected.flatten(1).norm(dim=1)).max())


def case(family: str, lengths: tuple[int, ...], batch: int) -> dict[str, float]:
    model = tiny.make(family, torch.float32)
    x_t = torch.randn(len(lengths), 4, tiny.SIDE, tiny.SIDE, generator=torch.Generator().manual_seed(9))
    t = torch.tensor(TIMES)

    def work(inside: Any) -> dict[str, float]:
        encoded = [inside.encode_prompt(str(number)) for number in range(len(lengths))]
        names = components.choose_layers(inside.layers, ["cross_attention_kv"])
        targets = {name: inside.layers[name] for name in names}

        def passed(parts: list[tuple[Tensor, Tensor, Any]]) -> tuple[Tensor, list[Tensor]]:
            sink = accumulator.GradientAccumulator(targets, 1, inside.weight_access, torch.float32, inside.device)
            sink.at(0, 1.0)
            outputs = []
            with torch.enable_grad(), gradients.captured_gradients(inside.unet, targets, sink, inside.weight_access) as anchor:
                for x, times, conditioning in parts:
                    output = inside.eps(x.clone(), times, conditioning)
                    torch.autograd.grad(output.square().sum(), anchor)
                    outputs.append(output.detach())
            return torch.cat(outputs), [sink.gradients[name] for name in names]

        at_once, grad = passed([(x_t, t, inside.together(encoded))])
        one_by_one, grads = passed([(x_t[i : i + 1], t[i : i + 1], encoded[i]) for i in range(len(lengths))])
        others, _ = passed([(x_t, t, inside.together(encoded[::-1]))])
        return {
            "eps": relative(at_once, one_by_one),
            "gradients": max(relative(mine[None], theirs[None]) for mine, theirs in zip(grad, grads, strict=True)),
            "prompts": float(((others - at_once).flatten(1).norm(dim=1) / at_once.flatten(1).norm(dim=1)).min()),
        }

    return denoiser.run(model, prompts(family, lengths), work, size=(tiny.SIDE, tiny.SIDE), batch=batch, sums=0)


def refusal() -> str:
    """What becomes of a prompt with several entries, as a text encoder with hooks over time makes them."""
    conds = prompts("sd1", (7, 7))
    conds["0"] = [*conds["0"], *conds["1"]]

    def work(inside: Any) -> str:
        try:
            inside.together([inside.encode_prompt("1"), inside.encode_prompt("0")])
        except errors.CadError as error:
            return str(error)
        return ""

    return denoiser.run(tiny.make("sd1", torch.float32), conds, work, size=(tiny.SIDE, tiny.SIDE), batch=1, sums=0)


@torch.inference_mode()  # as in a node
def main() -> None:
    found = {}
    for family in tiny.FAMILIES:
        for name, lengths in LENGTHS.items():
            for batch in (1, 4):  # ComfyUI prepares what an inpainting model gets for so many samples
                comfy.model_management.unload_all_models()
                found[f"{family} {name} {batch}"] = case(family, lengths, batch)
    print(json.dumps({"errors": found, "refused": refusal()}))


sys.exit(main())
