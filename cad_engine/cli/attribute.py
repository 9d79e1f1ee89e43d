"""cad attribute: which weights of a model draw a concept."""

from __future__ import annotations

import math
import shlex
import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from .common import (
    Device,
    DType,
    Height,
    Json,
    Lora,
    Model,
    Prediction,
    Seed,
    Width,
    check_output,
    latent_size,
    load,
    progress_bar,
    show,
    warn,
)


def attribute(
    model: Model,
    concept: Annotated[str, typer.Option(help="The words to attribute, e.g. 'van gogh'.")],
    out: Annotated[Path, typer.Option(help="The attribution file to write (.safetensors).")],
    base: Annotated[str, typer.Option(help="The base prompt to compare with; empty is the paper's.")] = "",
    method: Annotated[
        str | None,
        typer.Option(
            help="rounds (the default to erase) finds the edit itself. per-harm ranks weights once, for erase --select global. paper ranks "
            "them by the paper's score, in seconds to minutes; with --objective amplify it is the default without --keep, else per-harm is."
        ),
    ] = None,
    keep: Annotated[
        list[str] | None,
        typer.Option(help="A prompt whose pictures must stay; may be given several times. Default: ordinary prompts. Not for paper."),
    ] = None,
    rounds: Annotated[int | None, typer.Option(help="For rounds: at most so many; default 5.")] = None,
    context: Annotated[
        list[str] | None, typer.Option(help="For rounds: a sentence with {} in the concept's place; may be given several times.")
    ] = None,
    vary: Annotated[
        bool, typer.Option(help="For rounds: look at sentences with invented words, too, and keep the words nearest to the concept.")
    ] = True,
    after: Annotated[
        Path | None,
        typer.Option(help="An edit to have in place and to spare, for what is to be combined with it; its concepts join --keep."),
    ] = None,
    prompt: Annotated[str, typer.Option(help="The prompt that samples pictures of the concept; default: the concept itself.")] = "",
    objective: Annotated[str, typer.Option(help="erase (eq. 6) or amplify (eq. 7).")] = "erase",
    images: Annotated[Path | None, typer.Option(help="Folder with pictures of the concept, for amplify; default: sampled ones.")] = None,
    components: Annotated[
        str | None,
        typer.Option(
            help="Comma-separated: ff, self_attention, cross_attention, cross_attention_kv, attention, linear. Default: cross_attention_kv "
            "in rounds; ff,attention per harm; ff as in the paper."
        ),
    ] = None,
    trajectories: Annotated[int, typer.Option(help="How many pictures are sampled; more is steadier and slower.")] = 20,
    steps: Annotated[int, typer.Option(help="Steps of each; more pictures beat more steps.")] = 10,
    cfg: Annotated[float, typer.Option(help="Guidance of the sampling.")] = 3.0,
    seed: Seed = 0,
    spacing: Annotated[str, typer.Option(help="Timesteps: centred, trailing, or leading as in the paper.")] = "trailing",
    batch: Annotated[int, typer.Option(help="Samples computed together: lower it when memory is short.")] = 4,
    width: Width = None,
    height: Height = None,
    keep_ratio: Annotated[float | None, typer.Option(help="Largest ratio that a later erase can ask for.")] = None,
    checkpointing: Annotated[
        bool | None,
        typer.Option("--checkpointing/--no-checkpointing", help="Less memory, a third slower. Default: when there is too little."),
    ] = None,
    device: Device = "cpu",
    dtype: DType = "float32",
    prediction: Prediction = "auto",
    lora: Lora = [],  # noqa: B006 (typer's way)
    json: Json = False,
) -> None:
    """Attribute a concept to the weights of MODEL and write the attribution file."""
    from ..attribution_file import save_attribution
    from ..concept import attribute_concept
    from ..concept_settings import ConceptSettings
    from ..edit_file import load_edit
    from ..errors import CadError
    from ..fingerprint import fingerprint, mismatch
    from ..images import read_images
    from ..method import ROUNDS, chosen, widened
    from ..ordinary_prompts import ordinary_prompts
    from ..several import attribute_after, sparing
    from ..vocabulary import Vocabulary

    check_output(out, model, after)
    earlier = None if after is None else load_edit(after)
    groups = None if components is None else tuple(part.strip() for part in components.split(",") if part.strip())

    def told(family: str) -> tuple[ConceptSettings, tuple[str, ...]]:
        """Settings for a model of this family, and remarks."""
        ordinary = ordinary_prompts(family, concept, base)
        by_method = chosen(
            method and method.replace("-", " "),
            objective,  # type: ignore[arg-type]
            keep or (),
            context or (),
            ROUNDS if rounds is None else rounds,
            ordinary,
        )
        settings = ConceptSettings(
            concept=concept,
            base=base,
            keep=by_method.keep,
            rounds=by_method.rounds,
            contexts=by_method.contexts,
            prompt=prompt,
            objective=objective,  # type: ignore[arg-type]
            components=by_method.components if groups is None else groups,
            trajectories=trajectories,
            steps=steps,
            cfg=cfg,
            seed=seed,
            spacing=spacing,  # type: ignore[arg-type]
            batch=batch,
            keep_ratio=keep_ratio,
            checkpointing=checkpointing,
        )
        settings.check()
        return settings, by_method.remarks

    told("")  # what is wrong with the settings of any model is said before it is loaded
    if images is not None and objective != "amplify":
        raise CadError("--images is for --objective amplify; erasing samples its own pictures")
    denoiser = load(model, device, dtype, prediction, lora)
    size = latent_size(denoiser, height, width)
    settings, remarks = told(denoiser.family)
    settings = replace(settings, size=size)
    if vary:
        pipeline = denoiser.pipeline
        settings, more = widened(settings, Vocabulary.of(pipeline.tokenizer, pipeline.text_encoder))
        remarks += more
    if earlier is not None:
        settings = sparing(settings, earlier)
        if warning := mismatch(earlier.info, fingerprint(denoiser)):
            warn(f"{after} was {warning}")
    began = time.monotonic()
    latents = None
    if images is not None:
        latents = denoiser.encode(read_images(images, size[0] * denoiser.vae_scale, size[1] * denoiser.vae_scale))
    source = {"model": Path(model).name, "dtype": dtype, "prediction": denoiser.prediction, "loras": [Path(text).name for text in lora]}
    with progress_bar() as progress:
        if earlier is None:
            attribution = attribute_concept(denoiser, settings, latents, progress, source)
        else:
            attribution = attribute_after(denoiser, settings, earlier, latents, progress, source)
    save_attribution(out, attribution)
    seconds = time.monotonic() - began
    masses = [layer.mass for layer in attribution.layers.values()]
    positive, negative = sum(mass[0] for mass in masses), sum(mass[1] for mass in masses)
    result = {
        "file": str(out),
        "concept": concept,
        "objective": objective,
        "keep": list(settings.kept_prompts),
        "remarks": list(remarks),
        "score": attribution.score,
        "rounds_done": attribution.info.get("rounds_done"),
        "layers": len(attribution.layers),
        "weights_total": attribution.weights_total,
        "positive_mass": positive,
        "negative_mass": negative,
        "keep_ratio": attribution.keep_ratio,
        "seconds": round(seconds, 2),
    }
    # The paper's ratio, or what takes one weight of the longest rows where that would take none.
    ratio = max(0.001, math.ceil(1e4 / max(layer.in_features for layer in attribution.layers.values())) / 1e4)
    by_harm = " --select global" if settings.kept_prompts else ""
    take = "" if attribution.solved else f" --ratio {ratio:g}{by_harm}"
    lines = (
        f"{concept!r}: {attribution.weights_total:,} weights in {len(attribution.layers)} layers, "
        f"positive mass {positive:.4g}, negative mass {negative:.4g}, {seconds:.1f} s",
        *remarks,
        f"wrote {out}; next: cad {objective} {shlex.quote(model)} {shlex.quote(str(out))}{take} --out edit.safetensors",
    )
    show(result, json, "\n".join(lines))
