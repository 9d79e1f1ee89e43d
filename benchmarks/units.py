"""Neurons, heads and layers on the sandbox: `python -m benchmarks.units --json FILE`.

First, erasing by units at some ratios, beside single weights and as many random units: the share of the concept's pictures that show it
and of other pictures in which everything is right; and what is left of J, foretold and measured. Same prompts, seeds and judge as
benchmarks.paper_rule.

Then, does a unit's attribution tell what taking it out does? J is measured with single units scaled by 0.9 and taken out, one after the
other: the neurons with the largest sums and as many random ones, every head, every layer. Points and targets are fixed on the unedited
model, as in cad_engine.linear_check.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.paper_rule import CONCEPTS, shares
from cad_engine.attribution import Attribution, attribute
from cad_engine.checkpoints.denoiser import DiffusersDenoiser
from cad_engine.checkpoints.load import load_model
from cad_engine.components import choose_layers
from cad_engine.concept import attribution_info, concept_objective
from cad_engine.concept_settings import ConceptSettings
from cad_engine.edit import Edit, ablation, applied
from cad_engine.erasure import edit_from_attribution, layer_shapes, random_control
from cad_engine.objective import Objective
from cad_engine.sandbox.captions import concept_prompts
from cad_engine.sandbox.demo import DemoSettings, demo_attribution
from cad_engine.sandbox.judge import Judge
from cad_engine.sandbox.world import RARE_SHAPE
from cad_engine.selection import Rule, attributed_units
from cad_engine.units import Unit, unit_positions

ERASE: tuple[tuple[Unit, float, Rule, bool], ...] = (
    ("weight", 0.03, "row", True),
    ("weight", 0.01, "global", False),
    ("neuron", 0.01, "global", False),
    ("neuron", 0.03, "global", False),
    ("neuron", 0.1, "global", True),
    ("head", 0.012, "global", False),
    ("head", 0.035, "global", False),
    ("head", 0.1, "global", True),
    ("head", 0.2, "global", False),
    ("layer", 0.01, "global", False),
    ("layer", 0.03, "global", True),
)
"""What is erased by: unit, ratio, selection, and whether as many random ones are tried. The first row is the paper's rule as
`cad demo --method paper` has it."""
AMPLIFY: tuple[tuple[Unit, float, Rule], ...] = (
    ("weight", 0.02, "row_min1"),
    ("neuron", 0.01, "global"),
    ("neuron", 0.03, "global"),
    ("head", 0.035, "global"),
)
"""What the rare shape is amplified by; the first row is the demo's."""
BATCH = 20
SINGLE_TRAJECTORIES = 10
"""For single units, of which there are many: half as many as for erasing."""
STRENGTHS = (0.1, 1.0)
"""Of single units: 1 takes them out, 0.1 scales them by 0.9, where the first order should still hold."""


def made(denoiser: DiffusersDenoiser, concept: str, trajectories: int = 20) -> tuple[Objective, Attribution]:
    """J and the attribution of the ff and attention weights, against the concept's matched base prompt."""
    prompts = concept_prompts(concept)
    settings = ConceptSettings(prompts.sample, base=prompts.base, components=("ff", "attention"), batch=BATCH, trajectories=trajectories)
    objective = concept_objective(denoiser, settings)
    names = choose_layers(denoiser.layers, settings.components)
    return objective, attribute(denoiser, objective, names, info=attribution_info(denoiser, settings), batch=BATCH)


def edit_of(attribution: Attribution, unit: Unit, chosen: Sequence[tuple[str, int]]) -> Edit:
    """The ablation of these (layer, number) units."""
    numbers: dict[str, list[int]] = {}
    for name, number in chosen:
        numbers.setdefault(name, []).append(number)
    positions = {name: unit_positions(attribution.layers[name], unit, torch.tensor(sorted(members))) for name, members in numbers.items()}
    return ablation(positions, layer_shapes(attribution), {"unit": unit})


def every_unit(attribution: Attribution, unit: Unit) -> tuple[list[tuple[str, int]], Tensor]:
    """(layer, number) of every unit of a kind, and their attributions, float64."""
    sums = attributed_units(attribution, unit)
    return [(name, number) for name, each in sums.items() for number in range(len(each))], torch.cat(list(sums.values()))


def value(denoiser: DiffusersDenoiser, objective: Objective, edit: Edit, strength: float = 1.0) -> float:
    """J with `edit` applied."""
    with applied(edit, {name: module.weight for name, module in denoiser.layers.items()}, strength):
        return objective.value(denoiser, batch=BATCH)


def foretold(attribution: Attribution, edit: Edit) -> float:
    """-sum of a_i over the weights of `edit`: the change of J in first order. The sandbox keeps every score."""
    total = 0.0
    for name, layer in edit.layers.items():
        scores = attribution.layers[name]
        total -= float(scores.score[torch.isin(scores.index, layer.index)].double().sum())
    return total


def correlations(predicted: Sequence[float], true: Sequence[float]) -> dict[str, float]:
    """Pearson's, and that of the ranks (Spearman's), and how often the sign is right."""
    a, b = np.asarray(predicted), np.asarray(true)
    ranks = np.corrcoef(a.argsort().argsort(), b.argsort().argsort())
    return {"pearson": float(np.corrcoef(a, b)[0, 1]), "spearman": float(ranks[0, 1]), "sign": float(np.mean(np.sign(a) == np.sign(b)))}


def single_units(denoiser: DiffusersDenoiser, concept: str, neurons: int) -> list[dict[str, Any]]:
    """One unit at a time, scaled by 0.9 and taken out: what was foretold and what came, for each kind."""
    objective, attribution = made(denoiser, concept, SINGLE_TRAJECTORIES)
    before = value(denoiser, objective, Edit({}))
    by_size = every_unit(attribution, "neuron")[1].abs().argsort(descending=True)
    drawn = torch.randperm(len(by_size) - neurons, generator=torch.Generator().manual_seed(0))[:neurons]
    groups: list[tuple[str, Unit, list[int]]] = [
        (f"the {neurons} neurons with the largest sums", "neuron", by_size[:neurons].tolist()),
        (f"{neurons} others, at random", "neuron", by_size[neurons:][drawn].tolist()),
        ("every head", "head", list(range(len(every_unit(attribution, "head")[0])))),
        ("every layer", "layer", list(range(len(every_unit(attribution, "layer")[0])))),
    ]
    rows = []
    for label, unit, numbers in groups:
        names, sums = every_unit(attribution, unit)
        for strength in STRENGTHS:
            predicted = [-strength * float(sums[number]) / before for number in numbers]
            edits = [edit_of(attribution, unit, [names[number]]) for number in numbers]
            true = [value(denoiser, objective, edit, strength) / before - 1 for edit in edits]
            found = correlations(predicted, true)
            rows.append({"units": label, "strength": strength, "J": before, "predicted": predicted, "true": true, **found})
            sizes = " / ".join(f"{np.median(np.abs(changes)):.3%}" for changes in (predicted, true))
            line = f"{found['pearson']:.2f} | {found['spearman']:.2f} | {found['sign']:.0%} | {np.mean(np.asarray(true) > 0):.0%} | {sizes}"
            print(f"| {label} ({len(numbers)}) | {strength:g} | {line} |", flush=True)
    return rows


def control_of(attribution: Attribution, edit: Edit, unit: Unit, count: int) -> Edit:
    """As many random units of the kind; of weights, as many of each layer as `edit` takes."""
    if unit == "weight":
        return random_control(edit, layer_shapes(attribution))
    names, _ = every_unit(attribution, unit)
    drawn = torch.randperm(len(names), generator=torch.Generator().manual_seed(1))[:count].tolist()
    return edit_of(attribution, unit, [names[number] for number in drawn])


def erased(
    denoiser: DiffusersDenoiser, judge: Judge, objective: Objective, attribution: Attribution, concept: str, pictures: int
) -> list[dict[str, Any]]:
    """Erasing by each of ERASE."""
    before = value(denoiser, objective, Edit({}))
    rows = []
    for unit, ratio, rule, controlled in ERASE:
        edit = edit_from_attribution(attribution, ratio, rule, unit=unit)
        count = len(edit) if unit == "weight" else edit.info["units"]
        row = {
            "concept": concept,
            "unit": unit,
            "ratio": ratio,
            "rule": rule,
            "units": count,
            "weights": len(edit),
            "J_foretold": 1 + foretold(attribution, edit) / before,
            "J_left": value(denoiser, objective, edit) / before,
            "after": shares(denoiser, judge, concept, edit, pictures),
        }
        if controlled:
            row["random"] = shares(denoiser, judge, concept, control_of(attribution, edit, unit, count), pictures)
        rows.append(row)
        cells = [f"{row[when]['target']:.2f} / {row[when]['others']:.2f}" if when in row else "" for when in ("after", "random")]
        print(
            f"| {concept} | {unit}, {rule} {ratio:g} | {count:,} | {len(edit):,} | {row['J_foretold']:.2f} / {row['J_left']:.2f} | "
            f"{' | '.join(cells)} |",
            flush=True,
        )
    return rows


def amplified(denoiser: DiffusersDenoiser, judge: Judge, pictures: int) -> list[dict[str, Any]]:
    """Amplifying the rare shape by each of AMPLIFY, from 20 drawn pictures of it, with as many random weights or units beside it."""
    rows = []
    for unit, ratio, rule in AMPLIFY:
        groups = ("attention",) if unit == "head" else ("ff",)
        attribution = demo_attribution(denoiser, DemoSettings(concept=RARE_SHAPE, objective="amplify", components=groups))
        edit = edit_from_attribution(attribution, ratio, rule, unit=unit)
        count = len(edit) if unit == "weight" else edit.info["units"]
        row = {
            "unit": unit,
            "ratio": ratio,
            "rule": rule,
            "units": count,
            "weights": len(edit),
            "after": shares(denoiser, judge, RARE_SHAPE, edit, pictures),
            "random": shares(denoiser, judge, RARE_SHAPE, control_of(attribution, edit, unit, count), pictures),
        }
        rows.append(row)
        cells = [f"{row[when]['target']:.2f} / {row[when]['others']:.2f}" for when in ("after", "random")]
        print(f"| {unit}, {rule} {ratio:g} | {count:,} | {len(edit):,} | {' | '.join(cells)} |", flush=True)
    return rows


def main() -> None:
    """Measure and print Markdown tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--concept", action="append", choices=CONCEPTS, help="only these; default star and dotted")
    parser.add_argument("--single", action="append", choices=CONCEPTS, help="whose single units; default the first concept's")
    parser.add_argument("--amplify", action="store_true", help="amplify the rare shape, too")
    parser.add_argument("--neurons", type=int, default=30, help="how many of the strongest, and how many others")
    parser.add_argument("--pictures", type=int, default=36)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    denoiser, judge = load_model("sandbox"), Judge.load()
    concepts = options.concept or ["star", "dotted"]
    results: dict[str, Any] = {"before": {}, "erased": [], "single": {}}
    print("| concept | unit, selection, ratio | units | weights | J left, foretold / measured | target / others | random |")
    print("|---|---|---|---|---|---|---|")
    for concept in concepts:
        before = results["before"][concept] = shares(denoiser, judge, concept, Edit({}), options.pictures)
        print(f"| {concept} | none | 0 | 0 | 1 | {before['target']:.2f} / {before['others']:.2f} | |", flush=True)
        results["erased"] += erased(denoiser, judge, *made(denoiser, concept), concept, options.pictures)
    for concept in options.single or concepts[:1]:
        print(f"\n{concept}, one unit at a time:\n")
        print("| units | strength | Pearson | Spearman | sign right | J rose | median change of J, foretold / measured |")
        print("|---|---|---|---|---|---|---|")
        results["single"][concept] = single_units(denoiser, concept, options.neurons)
    if options.amplify:
        print(f"\n{RARE_SHAPE}, amplified:\n\n| unit, selection, ratio | units | weights | target / others | random |")
        print("|---|---|---|---|---|")
        results["amplified"] = amplified(denoiser, judge, options.pictures)
    if options.json is not None:
        options.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
