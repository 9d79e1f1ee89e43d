"""Amplifying the rare shape from drawn images of it, against controls: a small table of its own.

The controls: the unedited model, as many random weights of the same layers, and eq. 7 for the rare shape's words on images of another
shape. Each seed has its own images, noise, random weights and pictures.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cad_engine.attribution import Attribution, attribute
from cad_engine.audit.wilson import wilson_interval
from cad_engine.checkpoints.denoiser import DiffusersDenoiser
from cad_engine.components import choose_layers
from cad_engine.edit import Edit, applied
from cad_engine.erasure import edit_from_attribution, layer_shapes, random_control
from cad_engine.errors import CadError, first_line
from cad_engine.files import written_whole
from cad_engine.objective import amplify_objective
from cad_engine.progress import Progress, silent
from cad_engine.sandbox.captions import concept_prompts
from cad_engine.sandbox.demo import DEFAULT_RATIO, DEFAULT_RULE, DemoSettings, concept_images, demo_attribution
from cad_engine.sandbox.evaluation import other_cases, paint, target_cases
from cad_engine.sandbox.judge import Judge
from cad_engine.sandbox.world import RARE_SHAPE

from .reference import check_same
from .settings import MeasureSettings

IMAGES, FOREIGN_SHAPE = 20, "square"
SEED, SEEDS_EACH = 1_000_000_000, 1_000_000
"""Painting seeds of seed s begin at SEED + s * SEEDS_EACH: far from those of erasing, and other_cases adds 100,000."""
CONDITIONS = {
    "before": "unedited",
    "after": "amplified",
    "random_weights": "control: as many random weights",
    "another_shapes_images": f"control: images of the {FOREIGN_SHAPE}",
}


def foreign_attribution(denoiser: DiffusersDenoiser, seed: int, progress: Progress = silent) -> Attribution:
    """Eq. 7 for the rare shape's words on images of FOREIGN_SHAPE: what amplifying must be better than."""
    named = denoiser.encode_prompt(concept_prompts(RARE_SHAPE).sample)
    objective = amplify_objective(denoiser, named, denoiser.encode(concept_images(FOREIGN_SHAPE, IMAGES, seed)), seed=seed)
    layers = choose_layers(denoiser.layers, ["ff"])
    return attribute(denoiser, objective, layers, info={"objective": "amplify"}, batch=10, progress=progress)


def amplify_seed(denoiser: DiffusersDenoiser, judge: Judge, seed: int, pictures: int, progress: Progress = silent) -> dict[str, Any]:
    """Counts of one seed: for each of CONDITIONS [pictures that pass, pictures] of "target" and "others", and the weights set to zero."""
    attribution = demo_attribution(denoiser, DemoSettings(concept=RARE_SHAPE, objective="amplify", seed=seed), progress)
    ratio, rule = DEFAULT_RATIO["amplify"], DEFAULT_RULE["amplify"]
    edit = edit_from_attribution(attribution, ratio, rule)
    edits = {
        "before": Edit({}),
        "after": edit,
        "random_weights": random_control(edit, layer_shapes(attribution), seed),
        "another_shapes_images": edit_from_attribution(foreign_attribution(denoiser, seed, progress), ratio, rule),
    }
    begin = SEED + seed * SEEDS_EACH
    cases = target_cases(RARE_SHAPE, pictures, begin), other_cases(RARE_SHAPE, pictures, begin)
    weights = {name: module.weight for name, module in denoiser.layers.items()}
    counts: dict[str, Any] = {}
    for name, chosen in edits.items():
        with applied(chosen, weights):
            target, others = (paint(denoiser, judge, part, progress) for part in cases)
        shown = sum(verdict.shows(RARE_SHAPE) for verdict in target.verdicts)
        counts[name] = {"target": [shown, pictures], "others": [sum(others.right()), pictures], "weights": len(chosen)}
    return counts


def amplify_table(
    denoiser: DiffusersDenoiser,
    judge: Judge,
    seeds: Sequence[int],
    settings: MeasureSettings,
    made_with: dict[str, Any],
    folder: Path,
    progress: Progress = silent,
) -> dict[str, Any]:
    """The table over `seeds`, each kept in `folder` as soon as it is done: rows by condition, with counts and Wilson intervals.

    Raises CadError on a seed's file that was made with anything but `made_with`.
    """
    by_seed = {}
    for seed in seeds:
        path = folder / f"amplify--{seed}.json"
        if path.exists():
            by_seed[seed] = _load(path, made_with)
            continue
        by_seed[seed] = amplify_seed(denoiser, judge, seed, settings.pictures, progress)
        with written_whole(path) as temporary:
            temporary.write_text(json.dumps({"made_with": made_with, "counts": by_seed[seed]}, indent=1) + "\n", encoding="utf-8")
    rows = []
    for name, label in CONDITIONS.items():
        row: dict[str, Any] = {"condition": name, "label": label}
        for what in ("target", "others"):
            hits, of = (sum(counts[name][what][i] for counts in by_seed.values()) for i in (0, 1))
            row |= {what: round(hits / of, 4), f"{what}_interval": [round(end, 4) for end in wilson_interval(hits, of)]}
            row[f"{what}_count"] = [hits, of]
            row[f"{what}_by_seed"] = {str(seed): counts[name][what][0] for seed, counts in by_seed.items()}
        row["weights"] = round(sum(counts[name]["weights"] for counts in by_seed.values()) / len(by_seed), 1)
        rows.append(row)
    return {"concept": RARE_SHAPE, "ratio": DEFAULT_RATIO["amplify"], "rule": DEFAULT_RULE["amplify"], "seeds": list(seeds), "rows": rows}


def _load(path: Path, made_with: dict[str, Any]) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        counts = found["counts"]
        if set(counts) != set(CONDITIONS):
            raise ValueError(f"has {', '.join(counts)} instead of {', '.join(CONDITIONS)}")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CadError(f"{path} is damaged or not of this benchmark ({first_line(error)}); delete it to have it measured again") from error
    check_same(path, found.get("made_with"), made_with)
    return dict(counts)


def amplify_markdown(table: dict[str, Any]) -> str:
    """The table as Markdown, shares in percent with their 95 % intervals."""
    lines = [f"| {table['concept']}, ratio {table['ratio']:g} | weights | shown | others right |", "|---|---|---|---|"]
    for row in table["rows"]:
        cells = [f"{100 * row[what]:.0f} ({100 * low:.0f}-{100 * high:.0f})" for what in _SHARES for low, high in [row[f"{what}_interval"]]]
        lines.append(f"| {row['label']} | {row['weights']:,.0f} | {' | '.join(cells)} |")
    return "\n".join(lines)


_SHARES = ("target", "others")
