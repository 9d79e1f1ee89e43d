"""cad audit: how well an edit holds, over prompts and seeds, and whether the concept can be brought back."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import CadError
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


def audit(
    model: Model,
    edit: Annotated[list[str], typer.Option(help="An edit file, FILE or FILE:STRENGTH; may be given several times.")],
    prompt: Annotated[
        list[str], typer.Option(help="A prompt that asks for the concept, or @FILE with one on each line; may be given several times.")
    ],
    out: Annotated[Path, typer.Option(help="A new or empty folder for index.html, results.json and the pictures.")],
    keep: Annotated[list[str], typer.Option(help="A prompt that must come out as before, or @FILE; default: a mix of ordinary ones.")] = [],  # noqa: B006
    paraphrase: Annotated[list[str], typer.Option(help="A prompt that asks for the concept in other words, or @FILE.")] = [],  # noqa: B006
    concept: Annotated[str | None, typer.Option(help="The concept in words; default: what the edit says of itself.")] = None,
    base: Annotated[
        str | None, typer.Option(help="The prompt without the concept, for the attack's second start; default: the edit's.")
    ] = None,
    measure: Annotated[
        list[str],
        typer.Option(
            help="sandbox, nudity (needs NudeNet), nudity:paper, clip:FOLDER, classifier:FOLDER:LABEL; may be given several times. "
            "Default: sandbox on the sandbox, else none, and nothing is counted."
        ),
    ] = [],  # noqa: B006
    count: Annotated[int, typer.Option(help="Pictures for each prompt; picture i is of seed + i.")] = 4,
    steps: Annotated[int, typer.Option(help="Sampling steps.")] = 20,
    cfg: Annotated[float, typer.Option(help="Guidance.")] = 7.5,
    seed: Seed = 0,
    width: Width = None,
    height: Height = None,
    batch: Annotated[int, typer.Option(help="Pictures painted together.")] = 4,
    attack: Annotated[
        int, typer.Option(help="Iterations of the search for an embedding that brings the concept back; 0: not tried.")
    ] = 100,
    amplify: Annotated[bool, typer.Option(help="Try to bring it back with CAD-Amplify on top of the edit.")] = True,
    ratio: Annotated[float | None, typer.Option(help="Of CAD-Amplify: part of each row's weights, at least one.")] = None,
    checkpointing: Annotated[bool, typer.Option(help="Less memory where gradients are made, a third slower.")] = False,
    device: Device = "cpu",
    dtype: DType = "float32",
    prediction: Prediction = "auto",
    lora: Lora = [],  # noqa: B006
    json: Json = False,
) -> None:
    """Say how well an edit holds: pictures of MODEL without and with it, what is counted in them, attempts to bring the concept back."""
    from ..audit.audit import run_audit
    from ..audit.audit_report import summary, write_audit
    from ..audit.defaults import amplify_ratio, said
    from ..audit.diffusers_studio import DiffusersStudio
    from ..audit.settings import AuditSettings
    from ..edit import combine
    from ..edit_file import load_edit
    from ..fingerprint import fingerprint, mismatch
    from ..measures.named import named_measures
    from ..ordinary_prompts import ordinary_prompts

    _check_empty(out)
    edits = [(load_edit(path), strength) for path, strength in map(file_and_number, edit)]
    whole = combine(edits)
    named = concept or said(whole, "concept")
    if not named:
        raise CadError("the edit does not say what concept it was made for; give it with --concept")
    asked = _lines(prompt)
    denoiser = load(model, device, dtype, prediction, lora)
    own = fingerprint(denoiser)
    for text, (loaded, _) in zip(edit, edits, strict=True):
        if warning := mismatch(loaded.info, own):
            warn(f"{file_and_number(text)[0]} was {warning}")
    names = measure or (["sandbox"] if denoiser.family == "sandbox" else [])
    if not names:
        warn("no --measure was given, so nothing will be counted: there will be pictures to look at, and no verdict")
    found = [named_measures(name, named, device) for name in names]
    measures = ([each for one in found for each in one.concept], [each for one in found for each in one.kept])
    settings = AuditSettings(
        named,
        asked,
        _lines(keep) or ordinary_prompts(denoiser.family, named),
        _lines(paraphrase),
        said(whole, "base") if base is None else base,
        count=count,
        seed=seed,
        steps=steps,
        cfg=cfg,
        batch=batch,
        size=latent_size(denoiser, height, width),
        iterations=attack,
        amplify=amplify,
        ratio=ratio or amplify_ratio(denoiser.family),
        checkpointing=checkpointing,
    )
    settings.check()
    print(f"cad: {settings.evaluations():,} evaluations of the UNet are to be made", file=sys.stderr)
    with progress_bar() as progress:
        result = run_audit(DiffusersStudio(denoiser, whole, settings), settings, *measures, progress)
    made_with: dict[str, Any] = {"model": model, "edits": list(edit), "lora": list(lora) or None, "evaluations": settings.evaluations()}
    results = write_audit(out, result, measures, made_with)
    show(results, json, f"{summary(result)}\nopen {out / 'index.html'}")


def _lines(given: list[str]) -> tuple[str, ...]:
    """Prompts, and in place of @FILE the lines of it; each once."""
    found: list[str] = []
    for text in given:
        if text.startswith("@"):
            try:
                found += Path(text[1:]).read_text(encoding="utf-8-sig").splitlines()
            except (OSError, UnicodeDecodeError) as error:
                raise CadError(f"cannot read the prompts in {text[1:]}: {error}; give a text file with a prompt on each line") from error
        else:
            found.append(text)
    return tuple(dict.fromkeys(line.strip() for line in found if line.strip()))


def _check_empty(out: Path) -> None:
    try:
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise CadError(
                f"{out} is not an empty folder; name a new or an empty one, so that no pictures of another audit are among these"
            )
    except OSError as error:
        raise CadError(f"cannot use the folder {out}: {error.strerror}; choose another place") from error
