"""cad generate: pictures of a model, with edits on top."""

from __future__ import annotations

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
    file_and_number,
    latent_size,
    load,
    progress_bar,
    show,
    warn,
)


def generate(
    model: Model,
    prompt: Annotated[list[str], typer.Option(help="What to paint; may be given several times.")],
    out: Annotated[Path, typer.Option(help="Folder for the pictures (made if missing).")],
    edit: Annotated[list[str], typer.Option(help="An edit file, FILE or FILE:STRENGTH; may be given several times.")] = [],  # noqa: B006
    count: Annotated[int, typer.Option(help="Pictures for each prompt.")] = 1,
    steps: Annotated[int, typer.Option(help="Sampling steps.")] = 20,
    cfg: Annotated[float, typer.Option(help="Guidance.")] = 7.5,
    seed: Seed = 0,
    width: Width = None,
    height: Height = None,
    batch: Annotated[int, typer.Option(help="Pictures painted together.")] = 4,
    device: Device = "cpu",
    dtype: DType = "float32",
    prediction: Prediction = "auto",
    lora: Lora = [],  # noqa: B006
    json: Json = False,
) -> None:
    """Paint PROMPT with MODEL; picture i of each prompt uses seed + i, so before and after can be compared."""
    from ..edit import applied, combine
    from ..edit_file import load_edit
    from ..errors import CadError
    from ..fingerprint import fingerprint, mismatch
    from ..generate import paint
    from ..images import save_picture

    if count < 1:
        raise CadError(f"--count must be at least 1, got {count}")
    edits = [(load_edit(path), strength) for path, strength in map(file_and_number, edit)]
    denoiser = load(model, device, dtype, prediction, lora)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CadError(f"cannot make the folder {out}: {error.strerror}; choose another place") from error
    if edits:
        own = fingerprint(denoiser)
        for (path, _), (loaded, _) in zip(map(file_and_number, edit), edits, strict=True):
            if warning := mismatch(loaded.info, own):
                warn(f"{path} was {warning}")
    weights = {name: module.weight for name, module in denoiser.layers.items()}
    size = latent_size(denoiser, height, width)
    prompts = [text for text in prompt for _ in range(count)]
    seeds = [seed + i for _ in prompt for i in range(count)]
    files = []
    with progress_bar() as progress, applied(combine(edits), weights):
        pictures = paint(denoiser, prompts, seeds, steps=steps, cfg=cfg, batch=batch, size=size, progress=progress)
        for number, (picture, text, own_seed) in enumerate(zip(pictures, prompts, seeds, strict=True)):
            path = out / f"{number:04d}_seed{own_seed}.png"
            save_picture(path, picture)
            files.append({"file": str(path), "prompt": text, "seed": own_seed})
    show({"pictures": files}, json, f"wrote {len(files)} pictures to {out}")
