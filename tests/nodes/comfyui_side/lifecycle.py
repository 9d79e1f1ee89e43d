"""Run by ComfyUI's own Python: a run of the engine inside ComfyUI leaves nothing behind, however it ends; and who is refused.

Prints one JSON object: check -> whether it held.
"""

import gc
import json
import sys
import weakref
from typing import Any

import pack  # isort: skip
import comfy.model_base
import comfy.model_management
import comfy.model_sampling
import comfy.supported_models
import tiny
import torch

attribution = pack.part("cad_engine.attribution")
concept = pack.part("cad_engine.concept")
denoiser = pack.part("nodes.denoiser")
errors = pack.part("cad_engine.errors")
model_fingerprint = pack.part("nodes.model_fingerprint")
supported_model = pack.part("nodes.supported_model")

ANSWER: dict[str, bool] = {}
SETTINGS = concept.ConceptSettings("concept", base="base", trajectories=2, steps=4, batch=1)
IN_ROUNDS = concept.ConceptSettings("concept", base="base", keep=("kept",), rounds=2, trajectories=2, steps=2, cfg=1.0, batch=4)


class Stop(Exception):
    pass


def check(name: str, held: bool) -> None:
    ANSWER[name] = bool(held)


def state(model: Any) -> list[Any]:
    """All that a run could have changed."""
    unet = model.model.diffusion_model
    return [
        {name: value.clone() for name, value in model.model.state_dict().items()},
        {name: (value.requires_grad, value.grad) for name, value in unet.named_parameters()},
        [name for name, module in unet.named_modules() if "forward" in module.__dict__],
        unet.training,
        str(model.model_options),
        sorted(model.patches),
        getattr(comfy.model_management, "in_training", None),
        torch.is_inference_mode_enabled(),
        torch.is_grad_enabled(),
    ]


def unchanged(before: list[Any], after: list[Any]) -> bool:
    return before[1:] == after[1:] and all(torch.equal(before[0][name], after[0][name]) for name in before[0])


def run(model: Any, family: str, settings: Any, stop_at: int | None) -> tuple[weakref.ref[Any], int]:
    """One attribution, stopped at the `stop_at`-th report of progress; a weak reference to its denoiser, and the number of reports."""
    kept: list[weakref.ref[Any]] = []
    count = 0

    def progress(stage: str, done: int, total: int) -> None:
        nonlocal count
        count += 1
        if count == stop_at:
            raise Stop

    def work(inside: Any) -> Any:
        kept.append(weakref.ref(inside))
        return concept.attribute_concept(inside, settings, progress=progress)

    conds = {text: tiny.conditioning(family, seed) for seed, text in enumerate(settings.prompts())}
    try:
        made = denoiser.run(model, conds, work, size=(tiny.SIDE, tiny.SIDE), batch=settings.batch, sums=0)
        assert made.solved == bool(settings.rounds)
        assert stop_at is None
    except Stop:
        assert stop_at is not None
    return kept[0], count


def leaves_nothing(family: str, storage: str) -> None:
    model = tiny.make(family, tiny.STORAGE[storage])
    comfy.model_management.load_models_gpu([model])
    before = state(model)
    for settings, stops in ((SETTINGS, (None, 1, 3, 5, 8, 9)), (IN_ROUNDS, (None, 0.6, 0.9))):
        reports = 0
        for stop in stops:
            stop_at = round(stop * reports) if isinstance(stop, float) else stop
            left, count = run(model, family, settings, stop_at)
            reports = max(reports, count)
            gc.collect()
            how = f"{settings.rounds} rounds, {'finished' if stop_at is None else f'stopped at {stop_at}'}"
            check(f"{family} {storage} {how}: the model is as it was", unchanged(before, state(model)))
            check(f"{family} {storage} {how}: nothing holds the run's memory", left() is None)


def refused(name: str, model: Any, *, says: str) -> None:
    try:
        supported_model.family(model)
        supported_model.noise_sigmas(model)
        check(f"{name} is refused", False)
    except errors.CadError as error:
        check(f"{name} is refused", says in str(error))


class Patcher:
    """What the refusal looks at, of a model too large to build here."""

    def __init__(self, config: Any) -> None:
        self.model = type("Model", (), {"model_config": config, "diffusion_model": torch.nn.Linear(1, 1)})


def refusals() -> None:
    for config in ("Flux", "SD3", "SVD_img2vid", "LTXV", "SD_X4Upscaler", "SD15_instructpix2pix", "Stable_Zero123"):
        kind = getattr(comfy.supported_models, config)
        refused(config, Patcher(kind({**kind.unet_config})), says=config)
    flow = tiny.make("sd1", torch.float32)
    flow = flow.clone()

    class Flow(comfy.model_sampling.ModelSamplingDiscreteFlow, comfy.model_sampling.CONST):
        pass

    flow.add_object_patch("model_sampling", Flow())
    refused("a flow-matching model", flow, says="discrete eps or v")


def fingerprints() -> None:
    model = tiny.make("sd1", torch.float32)
    base = model_fingerprint.base_fingerprint(model)
    patches, _ = tiny.lora(model, [name for name in denoiser_layers(model) if ".ff." in name])
    with_lora = model.clone()
    with_lora.add_patches(patches, 1.0)
    check("a patch leaves the base's fingerprint", model_fingerprint.base_fingerprint(with_lora) == base)
    comfy.model_management.load_models_gpu([with_lora])
    check("so it does when it is loaded", model_fingerprint.base_fingerprint(with_lora) == base)
    check("another model has another", model_fingerprint.base_fingerprint(tiny.make("sd1", torch.float32, seed=3)) != base)
    names = [model_fingerprint.patches_digest(patcher) for patcher in (model, with_lora, with_lora.clone())]
    check("patches have a name of their own", names[0] != names[1] == names[2])
    stronger = model.clone()
    stronger.add_patches(patches, 0.9)
    check("another strength is another name", model_fingerprint.patches_digest(stronger) not in names)
    hooked = model.clone()
    hooked.set_model_sampler_post_cfg_function(lambda args: args["denoised"])
    check("what has functions in it has no name", model_fingerprint.patches_digest(hooked) is None)


def denoiser_layers(model: Any) -> list[str]:
    return list(pack.part("nodes.patch").layer_shapes(model))


@torch.inference_mode()  # as in a node
def main() -> None:
    for family, storage in (("sd1", "fp32"), ("sdxl", "fp16"), ("inpainting", "fp8")):
        leaves_nothing(family, storage)
    refusals()
    fingerprints()
    print(json.dumps(ANSWER))


sys.exit(main())
