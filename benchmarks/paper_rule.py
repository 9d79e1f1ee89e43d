"""The paper's rule on the sandbox, with controls: `python -m benchmarks.paper_rule --json FILE`.

For every concept: the share of its pictures that show it, and the share of other pictures in which everything is right, before and
after the edit and with as many random weights. And amplifying the rare shape, from drawn images of it, against random weights
and against images of another shape. Same prompts, seeds and judge everywhere.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from cad_engine.attribution import Attribution, attribute
from cad_engine.checkpoints.denoiser import DiffusersDenoiser
from cad_engine.checkpoints.load import load_model
from cad_engine.components import choose_layers
from cad_engine.edit import Edit, applied
from cad_engine.erasure import edit_from_attribution, layer_shapes, random_control
from cad_engine.objective import amplify_objective
from cad_engine.sandbox.captions import concept_prompts
from cad_engine.sandbox.demo import EVALUATION_SEED, DemoSettings, concept_images, demo_attribution
from cad_engine.sandbox.evaluation import COMMON_SHAPES, other_cases, paint, target_cases
from cad_engine.sandbox.judge import Judge
from cad_engine.sandbox.world import COLOURS, RARE_SHAPE, STYLES
from cad_engine.selection import Rule

SETTINGS = ((("ff",), 0.1), (("ff", "attention"), 0.03))
"""Components and ratio of the erase edits: the paper's layers, and the demo's."""
CONCEPTS = (*COMMON_SHAPES, *STYLES[1:], *COLOURS[:2])


def shares(denoiser: DiffusersDenoiser, judge: Judge, concept: str, edit: Edit, pictures: int) -> dict[str, float]:
    """Target and others (see evaluation) with `edit` applied."""
    weights = {name: module.weight for name, module in denoiser.layers.items()}
    cases = (target_cases(concept, pictures, EVALUATION_SEED), other_cases(concept, pictures, EVALUATION_SEED))
    with applied(edit, weights):
        target, others = (paint(denoiser, judge, part) for part in cases)
    return {"target": target.showing(concept), "others": others.accuracy}


def erase_row(
    denoiser: DiffusersDenoiser, judge: Judge, concept: str, components: tuple[str, ...], ratio: float, rule: Rule, pictures: int
) -> dict[str, Any]:
    """One concept: before, after, and the random control."""
    attribution = demo_attribution(denoiser, DemoSettings(concept=concept, components=components))
    edit = edit_from_attribution(attribution, ratio, rule)
    return {
        "concept": concept,
        "components": list(components),
        "ratio": ratio,
        "rule": rule,
        "weights": len(edit),
        "before": shares(denoiser, judge, concept, Edit({}), pictures),
        "after": shares(denoiser, judge, concept, edit, pictures),
        "random_weights": shares(denoiser, judge, concept, random_control(edit, layer_shapes(attribution)), pictures),
    }


def foreign_attribution(denoiser: DiffusersDenoiser, concept: str, images_of: str) -> Attribution:
    """Eq. 7 for `concept`'s words on images of another concept: what amplifying must be better than."""
    named = denoiser.encode_prompt(concept_prompts(concept).sample)
    objective = amplify_objective(denoiser, named, denoiser.encode(concept_images(images_of, 20, 0)))
    return attribute(denoiser, objective, choose_layers(denoiser.layers, ["ff"]), info={"objective": "amplify"}, batch=10)


def amplify_rows(denoiser: DiffusersDenoiser, judge: Judge, ratio: float, rule: Rule, pictures: int) -> dict[str, Any]:
    """The rare shape: before, amplified, and both controls."""
    attribution = demo_attribution(denoiser, DemoSettings(concept=RARE_SHAPE, objective="amplify"))
    edit = edit_from_attribution(attribution, ratio, rule)
    edits = {
        "before": Edit({}),
        "after": edit,
        "random_weights": random_control(edit, layer_shapes(attribution)),
        "another_shapes_images": edit_from_attribution(foreign_attribution(denoiser, RARE_SHAPE, "square"), ratio, rule),
    }
    rows = {name: shares(denoiser, judge, RARE_SHAPE, chosen, pictures) for name, chosen in edits.items()}
    return {"concept": RARE_SHAPE, "ratio": ratio, "rule": rule, "weights": len(edit), **rows}


def main() -> None:
    """Measure and print Markdown tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--concept", action="append", choices=CONCEPTS, help="only these; default all")
    parser.add_argument("--rule", default="row")
    parser.add_argument("--amplify-ratio", type=float, action="append", help="default 0.005 and 0.02")
    parser.add_argument("--pictures", type=int, default=36)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    denoiser, judge = load_model("sandbox"), Judge.load()
    erased, amplified = [], []
    print("| concept | components, ratio | weights | target before | after | random | others before | after | random |")
    print("|---|---|---|---|---|---|---|---|---|")
    for concept in options.concept or CONCEPTS:
        for components, ratio in SETTINGS:
            row = erase_row(denoiser, judge, concept, components, ratio, options.rule, options.pictures)
            erased.append(row)
            cells = [f"{row[when][what]:.2f}" for what in ("target", "others") for when in ("before", "after", "random_weights")]
            print(f"| {concept} | {', '.join(components)} {ratio:g} | {row['weights']:,} | {' | '.join(cells)} |", flush=True)
    print("\n| amplify, ratio | weights | before | after | random | another shape's images |\n|---|---|---|---|---|---|")
    for ratio in options.amplify_ratio or (0.005, 0.02):
        row = amplify_rows(denoiser, judge, ratio, "row_min1", options.pictures)
        amplified.append(row)
        cells = [f"{row[when]['target']:.2f}" for when in ("before", "after", "random_weights", "another_shapes_images")]
        print(f"| {row['concept']}, {ratio:g} | {row['weights']:,} | {' | '.join(cells)} |", flush=True)
    if options.json is not None:
        options.json.write_text(json.dumps({"erase": erased, "amplify": amplified}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
