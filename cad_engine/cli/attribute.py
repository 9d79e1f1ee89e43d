"""cad attribute: which weights of a model draw a concept."""

from __future__ import annotations

import math
import shlex
import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from .common import Device, DType, Height, Json, Lora, Model, Prediction, Seed, Width, check_output, latent_size, load, progress_bar, show


def attribute(
    model: Model,
    concept: Annotated[str, typer.Option(help="The words to attribute, e.g. 'van gogh'.")],
    out: Annotated[Path, typer.Option(help="The attribution file to write (.safetensors).")],
    base: Annotated[str, typer.Option(help="The base prompt to compare with; empty is the paper's.")] = "",
    keep: Annotated[
        list[str] | None,
        typer.Option(help="A prompt whose pictures must stay; may be given several times. Then erase with --select global."),
    ] = None,
    rounds: Annotated[
        int, typer.Option(help="Find the edit itself in so many rounds (3 is good); needs --keep. 0 ranks weights once.")
    ] = 0,
    context: Annotated[
        list[str] | None, typer.Option(help="For rounds: a sentence with {} in the concept's place; may be given several times.")
    ] = None,
    prompt: Annotated[str, typer.Option(help="The prompt that samples pictures of the concept; default: the concept itself.")] = "",
    objective: Annotated[str, typer.Option(help="erase (eq. 6) or amplify (eq. 7).")] = "erase",
    images: Annotated[Path | None, typer.Option(help="Folder with pictures of the concept, for amplify; default: sampled ones.")] = None,
    components: Annotated[str, typer.Option(help="Comma-separated: ff, self_attention, cross_attention, attention, linear.")] = "ff",
    trajectories: Annotated[int, typer.Option(help="How many pictures are sampled; more is steadier and slower.")] = 20,
    steps: Annotated[int, typer.Option(help="Steps of each; more pictures beat more steps.")] = 10,
    cfg: Annotated[float, typer.Option(help="Guidance of the sampling.")] = 3.0,
    seed: Seed = 0,
    spacing: Annotated[str, typer.Option(help="Timesteps: trailing, or leading as in the paper.")] = "trailing",
    batch: Annotated[int, typer.Option(help="Samples computed together: lower it when memory is short.")] = 4,
    width: Width = None,
    height: Height = None,
    keep_ratio: Annotated[float | None, typer.Option(help="Largest ratio that a later erase can ask for.")] = None,
    checkpointing: Annotated[bool, typer.Option(help="Less memory, a third slower.")] = False,
    device: Device = "cpu",
    dtype: DType = "float32",
    prediction: Prediction = "auto",
    lora: Lora = [],  # noqa: B006 (typer's way)
    json: Json = False,
) -> None:
    """Attribute a concept to the weights of MODEL and write the attribution file."""
    from ..attribution_file import save_attribution
    from ..concept import ConceptSettings, attribute_concept
    from ..errors import CadError
    from ..images import read_images

    check_output(out, model)
    settings = ConceptSettings(
        concept=concept,
        base=base,
        keep=tuple(keep or ()),
        rounds=rounds,
        contexts=tuple(context or ()),
        prompt=prompt,
        objective=objective,  # type: ignore[arg-type]
        components=tuple(part.strip() for part in components.split(",") if part.strip()),
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
    if images is not None and objective != "amplify":
        raise CadError("--images is for --objective amplify; erasing samples its own pictures")
    denoiser = load(model, device, dtype, prediction, lora)
    size = latent_size(denoiser, height, width)
    settings = replace(settings, size=size)
    began = time.monotonic()
    latents = None
    if images is not None:
        latents = denoiser.encode(read_images(images, size[0] * denoiser.vae_scale, size[1] * denoiser.vae_scale))
    source = {"model": Path(model).name, "dtype": dtype, "prediction": denoiser.prediction, "loras": [Path(text).name for text in lora]}
    with progress_bar() as progress:
        attribution = attribute_concept(denoiser, settings, latents, progress, source)
    save_attribution(out, attribution)
    seconds = time.monotonic() - began
    masses = [layer.mass for layer in attribution.layers.values()]
    positive, negative = sum(mass[0] for mass in masses), sum(mass[1] for mass in masses)
    result = {
        "file": str(out),
        "concept": concept,
        "objective": objective,
        "keep": list(settings.kept_prompts),
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
    take = "" if attribution.solved else f" --ratio {ratio:g}"
    text = (
        f"{concept!r}: {attribution.weights_total:,} weights in {len(attribution.layers)} layers, "
        f"positive mass {positive:.4g}, negative mass {negative:.4g}, {seconds:.1f} s\n"
        f"wrote {out}; next: cad {objective} {shlex.quote(model)} {shlex.quote(str(out))}{take} --out edit.safetensors"
    )
    show(result, json, text)
