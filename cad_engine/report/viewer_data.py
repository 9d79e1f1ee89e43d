"""An attribution as the small JSON that its interactive viewer, in ComfyUI and in HTML reports, draws from. Format: docs/files.md.

Bounded in size: 350 kB for the 140 feed-forward layers of SDXL with 50 timesteps and 240 kB with 10, written as ComfyUI writes JSON
(with spaces), and under a megabyte for any number of layers. Texts are shortened and without control characters, but they are plain
text: who shows them must not take them for HTML.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ..attribution import Attribution, ablated_sign
from ..reduction import HISTOGRAM_BINS, LayerScores, bin_edges
from ..selection import RULES
from .counts import right_in_rows, row_rule_counts, taken_counts, usable_ratios
from .text import shortened
from .unet_map import locate

FORMAT = 1
RATIOS = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
"""Ratios with exact counts; those above what the attribution keeps are left out."""
MAX_LAYERS = 1000
"""SDXL has 743 linear layers; of a file with more than this, the strongest are described."""

_OCTAVES = 20
"""Of magnitude below the largest score: a factor of a million. Smaller scores are counted in one number."""
_BINS_PER_OCTAVE = 4  # in LayerScores.histogram
_HISTOGRAM_NUMBERS, _TIMESTEP_NUMBERS = 30_000, 14_000
"""At most about so many numbers in all; models with more layers get coarser ones."""
_NAME_LIMIT, _TEXT_LIMIT, _ITEM_LIMIT, _KEY_LIMIT = 200, 300, 100, 60
_MAX_FACTS, _MAX_ITEMS = 40, 20
_EXACT_IN_JSON = 2**53


def viewer_data(attribution: Attribution, chosen: Collection[str] | None = None) -> dict[str, Any]:
    """What the viewer needs of `attribution`: finite JSON throughout.

    Args:
        chosen: names of the layers that selections are limited to; None for all.
    """
    sign = ablated_sign(attribution.objective)
    names = _described(attribution, sign)
    chosen = attribution.layers.keys() if chosen is None else set(chosen)
    part = replace(attribution, layers={name: layer for name, layer in attribution.layers.items() if name in chosen})
    ratios = usable_ratios(attribution, RATIOS)
    bins = _Bins([attribution.layers[name] for name in names])
    timesteps = _Timesteps(attribution.timesteps, len(names))
    in_rows = {name: right_in_rows(attribution.layers[name], sign) for name in names}
    return {
        "format_version": FORMAT,
        "info": _facts(attribution.info),
        "weights": attribution.weights_total,
        "keep_ratio": attribution.keep_ratio,
        "timesteps": timesteps.shown,
        "edges": bins.edges,
        "ratios": list(ratios),
        "taken": {rule: taken_counts(part, rule, ratios) for rule in RULES},
        "left_out": len(attribution.layers) - len(names),
        "layers": [
            {
                **_place(name),
                "chosen": name in chosen,
                "shape": [layer.out_features, layer.in_features],
                "mass": [_rounded(mass, 5) for mass in layer.mass],
                "timestep_mass": timesteps.sums(layer.timestep_mass),
                "below": bins.below(layer),
                "histogram": bins.counts(layer),
                "row": row_rule_counts(layer, in_rows[name], ratios),
                "row_min1": row_rule_counts(layer, in_rows[name], ratios, at_least=1),
            }
            for name, layer in ((name, attribution.layers[name]) for name in names)
        ],
    }


def _described(attribution: Attribution, sign: int) -> list[str]:
    """Names in the UNet's order of computation, of the strongest layers where there are too many."""
    names = list(attribution.layers)
    if len(names) > MAX_LAYERS:
        side = 0 if sign > 0 else 1
        names = sorted(names, key=lambda name: -abs(attribution.layers[name].mass[side]))[:MAX_LAYERS]
    return sorted(names, key=locate)


def _place(name: str) -> dict[str, Any]:
    place = locate(name)
    return {"name": shortened(name, _NAME_LIMIT), "side": place.side, "block": place.block, "group": place.group, "part": place.part}


def _rounded(value: float, digits: int) -> float:
    """`value` to so many significant digits, which is how JSON numbers are kept short."""
    return float(f"{value:.{digits}g}")


class _Bins:
    """A window of LayerScores.histogram that all layers share, from the largest score of all downwards."""

    def __init__(self, layers: list[LayerScores]) -> None:
        filled = torch.zeros(HISTOGRAM_BINS, dtype=torch.bool)
        for layer in layers:
            filled |= layer.histogram.bool().any(dim=0)
        last = int(filled.nonzero().max()) if bool(filled.any()) else 0
        per_octave = next((n for n in (4, 2) if len(layers) * _OCTAVES * n * 2 <= _HISTOGRAM_NUMBERS), 1)
        self._step = _BINS_PER_OCTAVE // per_octave
        self._stop = (last // _BINS_PER_OCTAVE + 1) * _BINS_PER_OCTAVE
        self._start = max(0, self._stop - _OCTAVES * _BINS_PER_OCTAVE)
        largest = torch.finfo(torch.float32).max  # the bins of infinity and NaN are empty in any sane file
        edges = torch.cat([bin_edges(), torch.tensor([largest])]).double().nan_to_num(largest, largest)
        self.edges = [_rounded(edge, 6) for edge in edges[self._start : self._stop + 1 : self._step].tolist()]

    def below(self, layer: LayerScores) -> list[int]:
        """How many positive and negative scores are below the first edge."""
        counts: list[int] = layer.histogram[:, : self._start].sum(dim=1, dtype=torch.int64).tolist()
        return counts

    def counts(self, layer: LayerScores) -> list[list[int]]:
        """Counts of positive and of negative scores, each [number of the first bin that is given, counts from there on]."""
        merged = layer.histogram[:, self._start : self._stop].long().unflatten(1, (-1, self._step)).sum(dim=2)
        return [self._trimmed(row) for row in merged]

    @staticmethod
    def _trimmed(counts: Tensor) -> list[int]:
        filled = counts.nonzero()
        if not len(filled):
            return [0]
        first, last = int(filled.min()), int(filled.max())
        return [first, *counts[first : last + 1].tolist()]


class _Timesteps:
    """The timesteps, neighbours summed where layers and timesteps are many."""

    def __init__(self, timesteps: list[int], layers: int) -> None:
        most = max(1, _TIMESTEP_NUMBERS // (2 * max(1, layers)))
        self._together = -(-len(timesteps) // most)
        self.shown = timesteps[:: self._together]

    def sums(self, mass: Tensor) -> list[list[float]]:
        """Positive and negative mass of each entry of `shown`, from LayerScores.timestep_mass [timesteps, 2]."""
        pieces = mass.double().split(self._together)
        return [[_rounded(float(piece[:, side].sum()), 3) for piece in pieces] for side in (0, 1)]


def _facts(info: Mapping[str, Any]) -> dict[str, Any]:
    """What the attribution was made from, flat and short; the layers, which are listed anyway, are left out."""
    return {shortened(str(key), _KEY_LIMIT): _fact(value) for key, value in list(info.items())[:_MAX_FACTS] if key != "layers"}


def _fact(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value if abs(value) <= _EXACT_IN_JSON else str(value)  # such as a seed, which JavaScript would round
    if isinstance(value, str):
        return shortened(value, _TEXT_LIMIT)
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return [shortened(item, _ITEM_LIMIT) for item in value[:_MAX_ITEMS]]
    return shortened(json.dumps(value, ensure_ascii=False, default=str), _TEXT_LIMIT)
