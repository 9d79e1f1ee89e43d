"""Run by ComfyUI's own Python: what an edit does to the weights of a model, alone and together with what else patches models.

Prints one JSON object: check -> whether it held.
"""

import json
import sys
from typing import Any

import pack  # isort: skip
import comfy.model_management
import tiny
import torch
from comfy_extras.nodes_model_merging import ModelMergeSimple
from torch import Tensor

edit_module = pack.part("cad_engine.edit")
erasure = pack.part("cad_engine.erasure")
patch = pack.part("nodes.patch")

ANSWER: dict[str, bool] = {}
NEAR = {"fp32": {"rtol": 1e-6}, "fp16": {"rtol": 1e-3}, "bf16": {"rtol": 1e-2}, "fp8": {"rtol": 0.13, "atol": 2**-8}}
"""Half a weight as each storage rounds it; fp8 is rounded at random, to one of the two numbers next to it."""


def positions(shapes: dict[str, tuple[int, int]], names: list[str], seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: erasure.distinct_positions(shapes[name][0] * shapes[name][1], 40, generator) for name in names}


def weights(model: Any) -> dict[str, Tensor]:
    """What `model` computes with when it is loaded whole, by name."""
    comfy.model_management.unload_all_models()
    comfy.model_management.load_models_gpu([model], force_patch_weights=True)
    return {f"diffusion_model.{name}": p.detach().clone() for name, p in model.model.diffusion_model.named_parameters()}


def same(a: dict[str, Tensor], b: dict[str, Tensor], but: dict[str, Tensor] | None = None) -> bool:
    """Bit by bit, except at the positions `but`."""
    for name in a:
        one, other = a[name].float().clone(), b[name].float().clone()
        if but is not None and name in but:
            for tensor in (one, other):
                tensor.view(-1)[but[name]] = 0
        if not torch.equal(one, other):
            return False
    return True


def at(found: dict[str, Tensor], where: dict[str, Tensor]) -> Tensor:
    return torch.cat([found[name].float().reshape(-1)[index] for name, index in where.items()])


def check(name: str, held: bool) -> None:
    ANSWER[name] = bool(held)


def storage_checks(storage: str) -> None:
    model = tiny.make("sd1", tiny.STORAGE[storage])
    shapes = patch.layer_shapes(model)
    names = [name for name in shapes if ".ff." in name or ".attn2." in name]
    where = positions(shapes, names, 1)
    edit = edit_module.ablation(where, shapes, {})
    before = weights(model)
    erased = patch.patched_model(model, edit)
    after = weights(erased)
    check(f"{storage}: ablated weights are exactly zero", bool((at(after, where) == 0).all()))
    # 0.3.64 rounds every weight of a patched fp8 matrix at random.
    exact = storage != "fp8" or hasattr(comfy.model_management, "in_training")
    check(f"{storage}: all other weights are bit-identical", not exact or same(before, after, where))
    check(f"{storage}: the base is bit-identical afterwards", same(before, weights(model)))
    half = weights(patch.patched_model(model, edit, 0.5))
    check(f"{storage}: strength 0.5 halves", torch.allclose(at(half, where), at(before, where) / 2, **NEAR[storage]))
    none = weights(patch.patched_model(model, edit, 0.0))
    check(f"{storage}: strength 0 changes nothing", not exact or same(before, none))


def chain_checks() -> None:
    model = tiny.make("sd1", torch.float32)
    shapes = patch.layer_shapes(model)
    names = [name for name in shapes if ".ff." in name]
    where, elsewhere = positions(shapes, names, 2), positions(shapes, names, 3)
    edit, other = (edit_module.ablation(place, shapes, {}) for place in (where, elsewhere))
    before = weights(model)

    both = weights(patch.patched_model(patch.patched_model(model, edit), other))
    check("two edits: both are ablated", bool((at(both, where) == 0).all() and (at(both, elsewhere) == 0).all()))
    combined = weights(patch.patched_model(model, edit_module.combine([(edit, 1.0), (other, 1.0)])))
    check("two edits in a chain are the combined edit", same(both, combined))

    lora_patches, deltas = tiny.lora(model, names)
    with_lora = model.clone()
    with_lora.add_patches(lora_patches, 1.0)
    check("a LoRA before the edit is erased with it", bool((at(weights(patch.patched_model(with_lora, edit)), where) == 0).all()))
    later = patch.patched_model(model, edit)
    later.add_patches(lora_patches, 1.0)
    check("a LoRA after the edit stays", torch.allclose(at(weights(later), where), at(deltas, where), atol=1e-6))

    second = tiny.make("sd1", torch.float32, seed=9)
    merged = ModelMergeSimple().merge(patch.patched_model(model, edit), second, 0.25)[0]
    expected = {name: 0.25 * weight for name, weight in before.items()}
    for name, weight in weights(second).items():
        expected[name] = expected[name] + 0.75 * weight
        if name in where:
            expected[name].view(-1)[where[name]] = 0.75 * weight.reshape(-1)[where[name]]
    found = weights(merged)
    check("merged with another model", all(torch.allclose(found[name], expected[name], atol=1e-5) for name in found))
    merged = ModelMergeSimple().merge(second, patch.patched_model(model, edit), 0.25)[0]
    expected = {name: 0.75 * weight for name, weight in weights(patch.patched_model(model, edit)).items()}
    for name, weight in weights(second).items():
        expected[name] = expected[name] + 0.25 * weight
    found = weights(merged)
    check("another model merged with it", all(torch.allclose(found[name], expected[name], atol=1e-5) for name in found))
    check("the edit of a merged model is applied after merging", bool((at(weights(patch.patched_model(merged, edit)), where) == 0).all()))
    check("the base is bit-identical after all of it", same(before, weights(model)))

    where = positions(shapes, [name for name in shapes if "attn2.to_k" in name], 5)
    try:
        patch.patched_model(tiny.make("sdxl", torch.float32), edit_module.ablation(where, shapes, {}))
        check("an edit of another architecture is refused", False)
    except ValueError as error:
        check("an edit of another architecture is refused", "another architecture" in str(error))


def offload_checks() -> None:
    """Half of the model is offloaded, and its patches applied on the fly: the same output."""
    model = tiny.make("sd1", torch.float32)
    shapes = patch.layer_shapes(model)
    edit = edit_module.ablation(positions(shapes, list(shapes), 4), shapes, {})
    erased = patch.patched_model(model, edit)
    x, sigma = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([3.0])
    context = tiny.conditioning("sd1", 0)[0][0]
    outputs = []
    for budget in (0, model.model_size() // 2):
        comfy.model_management.unload_all_models()
        comfy.model_management.LoadedModel(erased).model_load(budget)
        outputs.append(erased.model.apply_model(x, sigma, c_crossattn=context))
        held = any(getattr(module, "weight_function", None) for module in erased.model.diffusion_model.modules())
        check(f"offloading happened with budget {'all' if budget == 0 else 'half'}", held == (budget > 0))
        erased.detach()
    check("an offloaded edit paints the same", torch.allclose(*outputs, rtol=1e-5, atol=1e-6))


@torch.inference_mode()  # as in a node
def main() -> None:
    for storage in tiny.STORAGE:
        storage_checks(storage)
    chain_checks()
    offload_checks()
    print(json.dumps(ANSWER))


sys.exit(main())
