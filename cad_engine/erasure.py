"""From an attribution to an edit, and the control that every result is compared with."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from .attribution import SCORES, Attribution, ablated_sign
from .edit import Edit, LayerEdit, ablation
from .errors import CadError
from .reduction import LayerScores, share_count
from .selection import Rule, attributed_units, select, select_units
from .units import Unit, unit_positions


def edit_from_attribution(
    attribution: Attribution, ratio: float | None, rule: Rule = "row", *, layers: Collection[str] | None = None, unit: Unit = "weight"
) -> Edit:
    """CAD-Erase or CAD-Amplify, whichever the attribution was made for: the edit that ablates the selected weights, or units of weights.

    `ratio` is the part of the weights or units to take, by `rule` (see selection.select, and for units selection.select_units).
    An attribution that was solved in rounds gives each selected weight its factor instead, and `ratio` None takes all of them.
    Raises CadError when the ratio is so small that nothing is taken, or None with nothing solved, besides what selecting raises.
    """
    if unit != "weight":
        return _edit_of_units(attribution, ratio, rule, layers, unit)
    if ratio is None and not attribution.solved:
        raise CadError("this attribution was made without rounds, so it does not know how much to take; give a ratio, such as 0.001")
    positions = select(attribution, 1.0 if ratio is None else ratio, "global" if ratio is None else rule, layers=layers)
    edit = ablation(positions, layer_shapes(attribution), _edit_info(attribution, ratio, rule, layers))
    if attribution.solved:
        edit = Edit({name: _with_factors(layer, attribution.layers[name]) for name, layer in edit.layers.items()}, edit.info)
    if not len(edit):
        raise CadError(_takes_nothing(attribution, ratio, rule, layers))
    return edit


def _edit_of_units(attribution: Attribution, ratio: float | None, rule: Rule, layers: Collection[str] | None, unit: Unit) -> Edit:
    sums = attributed_units(attribution, unit, layers)
    if ratio is None:
        raise CadError(f"how many {unit}s are to be taken? Give a ratio, such as 0.01")
    chosen = select_units(attribution, ratio, unit, rule, layers=layers)
    if not chosen:
        raise CadError(_takes_no_unit(attribution, ratio, rule, unit, [len(each) for each in sums.values()]))
    positions = {name: unit_positions(attribution.layers[name], unit, numbers) for name, numbers in chosen.items()}
    units = {"unit": unit, "units": sum(map(len, chosen.values())), "units_total": sum(map(len, sums.values()))}
    return ablation(positions, layer_shapes(attribution), {**_edit_info(attribution, ratio, rule, layers), **units})


def _takes_no_unit(attribution: Attribution, ratio: float, rule: Rule, unit: Unit, counts: list[int]) -> str:
    most = sum(counts) if rule == "global" else max(counts)
    if share_count(ratio, most):
        what = "positive" if ablated_sign(attribution.objective) > 0 else "negative"
        return f"no {unit} has a {what} attribution, so there is none to take; choose another unit or other layers"
    enough = math.ceil(1e6 / most) / 1e6  # rounded up, so that it is enough
    where = "there are" if rule == "global" else "layers have at most"
    return f"ratio {ratio:g} takes no {unit}: {where} {most:,} and floor({ratio:g} * {most}) is 0; take at least {enough:g}"


def _with_factors(layer: LayerEdit, scores: LayerScores) -> LayerEdit:
    assert scores.factor is not None
    return replace(layer, factor=scores.factor[torch.searchsorted(scores.index, layer.index)])


def _takes_nothing(attribution: Attribution, ratio: float | None, rule: Rule, layers: Collection[str] | None) -> str:
    chosen = [attribution.layers[name] for name in (attribution.layers if layers is None else layers)]
    if attribution.solved and layers is not None and not any(len(layer.index) for layer in chosen):
        return f"the rounds changed no weight of the {len(chosen)} chosen layers; choose others"
    side = 0 if ablated_sign(attribution.objective) > 0 else 1
    if not sum(int(layer.histogram[side].sum()) for layer in chosen):
        return "no weight has a score of the right sign; are concept and base prompt the same to this model?"
    longest = max(layer.in_features for layer in chosen)
    if ratio is not None and rule == "row" and share_count(ratio, longest) == 0:
        enough = math.ceil(1e6 / longest) / 1e6  # rounded up, so that it is enough
        return (
            f"ratio {ratio:g} takes no weight: rows have at most {longest} inputs and floor({ratio:g} * {longest}) is 0; "
            f"take at least {enough:g}, or the selection row_min1 or global"
        )
    return f"ratio {ratio:g} takes no weight with the selection {rule}; take a larger one"


def layer_shapes(attribution: Attribution) -> dict[str, tuple[int, int]]:
    """(out_features, in_features) of every layer of `attribution`."""
    return {name: (layer.out_features, layer.in_features) for name, layer in attribution.layers.items()}


def _edit_info(attribution: Attribution, ratio: float | None, rule: str, layers: Collection[str] | None) -> dict[str, object]:
    made_from = {key: value for key, value in attribution.info.items() if key not in ("keep_ratio", "checkpointing", "batch")}
    chosen = attribution.info.get("layers") if layers is None else sorted(layers)
    method = dict(zip(SCORES, ("first order, one shot", "first order per harm, one shot", "rounds"), strict=True))[attribution.score]
    return {**made_from, "ratio": ratio, "selection": rule, "layers": chosen, "method": method}


def random_control(edit: Edit, shapes: Mapping[str, tuple[int, int]], seed: int = 0) -> Edit:
    """As many weights of each layer as `edit` takes, drawn at random, with the same factors: what any edit must be better than."""
    generator = torch.Generator().manual_seed(seed)
    positions: dict[str, Tensor] = {}
    for name, layer in edit.layers.items():
        rows, columns = shapes[name]
        positions[name] = distinct_positions(rows * columns, len(layer.index), generator)
    control = ablation(positions, shapes, {"control": "random weights", "seed": seed})
    return Edit({name: replace(layer, factor=edit.layers[name].factor) for name, layer in control.layers.items()}, control.info)


def distinct_positions(size: int, count: int, generator: torch.Generator) -> Tensor:
    """`count` different numbers below `size`, ascending, without a permutation of all of them where it can be helped."""
    if count > size // 4:
        return torch.randperm(size, generator=generator)[:count].sort().values
    drawn = torch.empty(0, dtype=torch.int64)
    while len(drawn) < count:
        drawn = torch.cat([drawn, torch.randint(size, (count,), generator=generator)]).unique()
    return drawn[torch.randperm(len(drawn), generator=generator)[:count]].sort().values
