"""cad demo: the whole thing on the embedded sandbox model, in a minute or two on any computer."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .common import Json, Seed, progress_bar, show


def demo(
    concept: Annotated[str, typer.Option(help="A shape, colour or style of the sandbox, e.g. star, red, dotted.")] = "star",
    out: Annotated[Path, typer.Option(help="Folder for the results (made if missing).")] = Path("cad-demo"),
    objective: Annotated[str, typer.Option(help="erase, or amplify (made for the rare shape: --concept crescent).")] = "erase",
    method: Annotated[str | None, typer.Option(help="To erase: rounds (the default), or paper.")] = None,
    ratio: Annotated[
        float | None, typer.Option(help="Part of the weights to take; default: what rounds found, or what suits the sandbox.")
    ] = None,
    select: Annotated[
        str | None,
        typer.Option(help="row, row_min1, layer or global; default: global; with --method paper row to erase; row_min1 to amplify."),
    ] = None,
    components: Annotated[str | None, typer.Option(help="As for cad attribute; default: ff,attention to erase, ff to amplify.")] = None,
    pictures: Annotated[int, typer.Option(help="Pictures of the concept; half as many again without it.")] = 36,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Attribute a concept of the sandbox, suppress (or amplify) it, and show pictures and figures before and after."""
    from ..sandbox.demo import DemoSettings, run_demo

    groups = None if components is None else tuple(part.strip() for part in components.split(",") if part.strip())
    settings = DemoSettings(concept, objective, method, ratio, select, groups, pictures, seed)  # type: ignore[arg-type]
    with progress_bar() as progress:
        results = run_demo(settings, out, progress)
    before, after, random = results["before"], results["after"], results["random_weights"]
    text = (
        f"{objective} {concept!r}: {results['weights_changed']:,} of {results['weights_total']:,} weights changed, "
        f"{results['seconds']} s\n"
        f"                  pictures of it showing it   other pictures all right\n"
        f"  before          {before['target']:>25.0%}   {before['others']:>24.0%}\n"
        f"  after           {after['target']:>25.0%}   {after['others']:>24.0%}\n"
        f"  random weights  {random['target']:>25.0%}   {random['others']:>24.0%}\n"
        f"open {out / 'report.html'}"
    )
    show(results, json, text)
