"""CAD Attribute: which weights of the loaded model draw a concept."""

from __future__ import annotations

import logging
from dataclasses import asdict
from typing import Any

import comfy.model_management
from comfy.model_patcher import ModelPatcher
from comfy_api.latest import io
from torch import Tensor

from ..cad_engine import __version__
from ..cad_engine.attribution import Attribution
from ..cad_engine.components import choose_layers
from ..cad_engine.concept import ConceptSettings, attribute_concept
from ..cad_engine.cost import evaluations
from ..cad_engine.errors import CadError, shown
from ..cad_engine.fingerprint import fingerprint, weights_fingerprint
from . import cache, denoiser
from .model_fingerprint import base_fingerprint, digest, patches_digest
from .patch import layer_shapes
from .progress import NodeProgress
from .schema import ADVANCED, CadAttribution, schema
from .status import show
from .supported_model import PIXELS_PER_LATENT, family, noise_sigmas, usual_latent

COMPONENTS = {
    "ff": ("ff",),
    "ff + attention": ("ff", "attention"),
    "attention": ("attention",),
    "cross-attention": ("cross_attention",),
    "self-attention": ("self_attention",),
    "all linear layers": ("linear",),
}

_log = logging.getLogger(__name__)


class Attribute(io.ComfyNode):
    """Scores every weight of the chosen layers by its part in the concept (paper, eqs. 6 and 7)."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="CADAttribute",
            display_name="CAD Attribute",
            description="Finds the weights of a diffusion model that draw a concept. CAD Erase or CAD Amplify take it from there.",
            search_aliases=["concept attribution", "find concept weights", "concept erasure", "interpretability", "unlearn"],
            inputs=[
                io.Model.Input(
                    "model",
                    tooltip="The model to look into: Stable Diffusion 1.x, 2.x, XL, inpainting, or the CAD sandbox. LoRAs before this node "
                    "count as part of it. It is not changed.",
                ),
                io.Clip.Input("clip", tooltip="The text encoder of the same checkpoint; it encodes the concept and the base prompt."),
                io.String.Input(
                    "concept",
                    default="",
                    placeholder="concept, e.g. a painting in the style of van gogh",
                    tooltip="What to find, in words as a prompt would say it. Prompt weights in ( ) work as in CLIP Text Encode.",
                ),
                io.String.Input(
                    "base",
                    default="",
                    placeholder="base prompt, e.g. a painting (empty as in the paper)",
                    tooltip="What should be drawn instead: the same words without the concept. Empty is the paper's choice; a matching "
                    "base ('a painting' for 'a painting in the style of van gogh') leaves more of the rest alone.",
                ),
                io.String.Input(
                    "keep",
                    default="",
                    multiline=True,
                    placeholder="prompts to protect, one per line",
                    tooltip="Concepts that must stay, one prompt per line. Weights that they need are ranked down. Takes more time for "
                    "every line; empty is the paper's rule. Use the selection 'global' in CAD Erase with it.",
                ),
                io.Combo.Input(
                    "objective",
                    options=["erase", "amplify"],
                    default="erase",
                    tooltip="erase: find what draws the concept. amplify: find what holds it back; works best with images of it.",
                ),
                io.Latent.Input(
                    "images",
                    optional=True,
                    tooltip="For amplify: VAE-encoded pictures of the concept. Without them the model's own pictures are used.",
                ),
                io.Combo.Input(
                    "components",
                    options=list(COMPONENTS),
                    default="ff",
                    tooltip="Which layers to score. ff (feed-forward) is the paper's choice; with attention, fewer weights are needed and "
                    "less else is lost on small models.",
                ),
                io.Int.Input(
                    "trajectories",
                    default=20,
                    min=1,
                    max=1000,
                    tooltip="How many pictures are sampled to measure on. More is steadier and takes longer; 5 gives a quick look.",
                ),
                io.Int.Input(
                    "steps",
                    default=10,
                    min=1,
                    max=1000,
                    tooltip="Sampling steps of each of them (noise levels per image for amplify). Trajectories are worth more than steps.",
                ),
                io.Float.Input(
                    "cfg",
                    default=3.0,
                    min=1.0,
                    max=100.0,
                    step=0.1,
                    tooltip="Guidance while sampling. 3 is the paper's; raise it if the model hardly draws the concept at 3.",
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=2**63 - 1,
                    control_after_generate=False,
                    tooltip="Of the sampled noise. The same seed and settings give the same attribution.",
                ),
                io.Int.Input(
                    "width",
                    default=0,
                    min=0,
                    max=8192,
                    step=8,
                    tooltip="Width in pixels to measure at; 0 is what the model was trained on. Smaller is faster and less exact.",
                    extra_dict=ADVANCED,
                ),
                io.Int.Input(
                    "height",
                    default=0,
                    min=0,
                    max=8192,
                    step=8,
                    tooltip="Height in pixels to measure at; 0 is what the model was trained on.",
                    extra_dict=ADVANCED,
                ),
                io.String.Input(
                    "prompt",
                    default="",
                    placeholder="sampled prompt (empty: the concept)",
                    tooltip="What is painted while measuring, if that should be more than the concept: 'a photo of a church' for 'church'.",
                    extra_dict=ADVANCED,
                ),
                io.Combo.Input(
                    "spacing",
                    options=["trailing", "leading"],
                    default="trailing",
                    tooltip="Timesteps of the sampling. trailing starts at pure noise and is right for few steps; leading is the paper's.",
                    extra_dict=ADVANCED,
                ),
                io.Int.Input(
                    "batch",
                    default=4,
                    min=1,
                    max=64,
                    tooltip="Samples computed together. Lower it when memory runs out; the scores stay the same.",
                    extra_dict=ADVANCED,
                ),
                io.Boolean.Input(
                    "checkpointing",
                    default=False,
                    tooltip="Compute activations twice instead of keeping them: about a third slower, much less memory.",
                    extra_dict=ADVANCED,
                ),
                io.Float.Input(
                    "largest_ratio",
                    default=0.0,
                    min=0.0,
                    max=1.0,
                    step=0.001,
                    round=False,
                    tooltip="The largest ratio that the result can be used with later. 0 keeps all scores of a small model and 1 % of a "
                    "large one, which keeps files small.",
                    extra_dict=ADVANCED,
                ),
                io.Boolean.Input(
                    "cache",
                    default=True,
                    tooltip="Keep the result on disk and use it again when model, prompts and settings are the same, also after a restart.",
                    extra_dict=ADVANCED,
                ),
            ],
            outputs=[
                CadAttribution.Output(
                    "attribution", display_name="attribution", tooltip="The scores, for CAD Erase, CAD Amplify, the viewer or a file."
                )
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def validate_inputs(cls, concept: str | None = None, base: str | None = None, objective: str | None = None) -> bool | str:
        if concept is not None and not concept.strip():
            return "concept is empty; say what is to be found, e.g. 'van gogh'"
        if objective == "erase" and None not in (concept, base) and concept.strip() == base.strip():
            return f"concept and base are both '{shown(base)}', so there is nothing to tell apart; change one"
        return True

    @classmethod
    def execute(
        cls,
        model: ModelPatcher,
        clip: Any,
        concept: str,
        base: str,
        keep: str,
        objective: str,
        components: str,
        trajectories: int,
        steps: int,
        cfg: float,
        seed: int,
        width: int,
        height: int,
        prompt: str,
        spacing: str,
        batch: int,
        checkpointing: bool,
        largest_ratio: float,
        cache: bool,
        images: dict[str, Tensor] | None = None,
    ) -> io.NodeOutput:
        family(model)  # refuses what CAD cannot do, before any work
        noise_sigmas(model)
        latents = _image_latents(model, images, objective)
        size = _latent_size(model, width, height, latents)
        settings = ConceptSettings(
            concept=concept,
            base=base,
            prompt=prompt,
            keep=tuple(keep.splitlines()),
            objective=objective,
            components=COMPONENTS[components],
            trajectories=trajectories,
            steps=steps,
            cfg=cfg,
            seed=seed,
            spacing=spacing,
            batch=batch,
            size=size,
            keep_ratio=largest_ratio or None,
            checkpointing=checkpointing,
        )
        settings.check()
        attribution, known = _attribution(model, clip, settings, latents, cache)
        show(cls, _summary(attribution, known))
        return io.NodeOutput(attribution)


def _image_latents(model: ModelPatcher, images: dict[str, Tensor] | None, objective: str) -> Tensor | None:
    """Clean latents [N, C, H, W] as the UNet has them; a LATENT holds them as the autoencoder gave them."""
    if images is None:
        return None
    if objective != "amplify":
        raise CadError("images are for the objective amplify, and this one is erase; set amplify or disconnect the images")
    samples, channels = images["samples"], model.model.latent_format.latent_channels
    if samples.ndim != 4 or samples.shape[1] != channels:
        raise CadError(f"images must be latents [N, {channels}, H, W] of this model, got {list(samples.shape)}; encode them with its VAE")
    return model.model.process_latent_in(samples.clone())


def _latent_size(model: ModelPatcher, width: int, height: int, latents: Tensor | None) -> tuple[int, int]:
    """(height, width) of the latents to measure on."""
    if latents is not None:
        return latents.shape[2], latents.shape[3]
    _, usual_height, usual_width = usual_latent(model)
    return height // PIXELS_PER_LATENT or usual_height, width // PIXELS_PER_LATENT or usual_width


def _attribution(
    model: ModelPatcher, clip: Any, settings: ConceptSettings, latents: Tensor | None, cached: bool
) -> tuple[Attribution, bool]:
    """The attribution, and whether it was known already."""
    # Encoded first: loading the text encoder may push the UNet out of memory.
    conditionings = {text: clip.encode_from_tokens_scheduled(clip.tokenize(text)) for text in settings.prompts()}
    shapes = layer_shapes(model)
    weights = sum(rows * columns for rows, columns in (shapes[name] for name in choose_layers(shapes, settings.components)))
    patches = patches_digest(model) if cached else None

    def work(inside: denoiser.ComfyDenoiser) -> tuple[Attribution, bool]:
        key = None if patches is None else _cache_key(inside, settings, latents, conditionings, patches)
        if key is not None and (known := cache.load(key)) is not None:
            return known, True
        progress = NodeProgress(model, evaluations(settings, None if latents is None else len(latents)), lambda: inside.denoised)
        info = {"base_fingerprint": base_fingerprint(model)}
        attribution = attribute_concept(inside, settings, latents, progress, info)
        if key is not None:
            cache.store(key, attribution)
        return attribution, False

    assert settings.size is not None
    try:
        return denoiser.run(model, conditionings, work, size=settings.size, batch=settings.batch, weights=weights)
    finally:
        comfy.model_management.soft_empty_cache()


def _cache_key(
    inside: denoiser.ComfyDenoiser, settings: ConceptSettings, latents: Tensor | None, conditionings: dict[str, Any], patches: str
) -> str:
    """A name for everything that the result depends on: weights, what acts on them, prompts as encoded, images and settings."""

    def convolution(name: str) -> Tensor:
        with inside.weight_access(inside.unet.get_submodule(name), inside.schedule.alphas_cumprod.to(inside.device)) as (weight, _):
            return weight

    convolutions = [name for name, module in inside.unet.named_modules() if hasattr(module, "kernel_size")]
    return digest(
        __version__,
        asdict(settings),
        fingerprint(inside),
        weights_fingerprint(convolutions, convolution),
        patches,
        inside.schedule.alphas_cumprod,
        str(inside.unet.dtype),
        [
            [text, [[context, {key: value for key, value in extra.items() if isinstance(value, Tensor)}] for context, extra in encoded]]
            for text, encoded in conditionings.items()
        ],
        latents,
    )


def _summary(attribution: Attribution, known: bool) -> str:
    layers, total = len(attribution.layers), attribution.weights_total
    return f"{total:,} weights in {layers} layers scored{' (known from before)' if known else ''}"
