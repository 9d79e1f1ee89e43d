"""An attribution as the small JSON that its interactive viewer, in ComfyUI and in HTML reports, draws from. Format: docs/files.md.

Bounded in size: 370 kB for the 140 feed-forward layers of SDXL with 50 timesteps and 300 kB with 10, and under a megabyte for any number
of layers.
Texts are shortened and without control characters, but they are plain text: who shows them must not take them for HTML.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor

from ..attribution import SCORES, Attribution, ablated_sign
from ..reduction import HISTOGRAM_BINS, LayerScores, bin_edges, bin_numbers, share_count
from ..units import columns_are, unit_sums
from .row_ranks import described_rows, row_ranks, rows_by_count, sums_by_rank, trimmed
from .text import shortened
from .unet_map import locate, unet_shape

FORMAT = 2
MAX_LAYERS = 1000
"""SDXL has 743 linear layers; of a file with more than this, the strongest are described."""

_OCTAVES = 20
"""Of magnitude below the largest score: a factor of a million. Smaller scores are counted in one number."""
_BINS_PER_OCTAVE = 4  # in LayerScores.histogram
_HISTOGRAM_NUMBERS, _TIMESTEP_NUMBERS = 30_000, 14_000
"""At most about so many numbers in all; models with more layers get coarser ones."""
_ROWS, _ROWS_OF_A_LAYER, _UNITS = 2_800, 256, 2_800
"""At most so many rows and so many neurons or heads in all, the strongest of each layer."""
NAME_LIMIT = 200
_TEXT_LIMIT, _ITEM_LIMIT, _KEY_LIMIT = 300, 100, 60
_MAX_FACTS, _MAX_ITEMS = 40, 20
_EXACT_IN_JSON = 2**53


def viewer_data(attribution: Attribution, chosen: Collection[str] | None = None) -> dict[str, Any]:
    """What the viewer needs of `attribution`: finite JSON throughout.

    Args:
        chosen: names of the layers that selections are limited to; None for all.
    """
    sign = ablated_sign(attribution.objective)
    names = described_layers(attribution)
    layers = [attribution.layers[name] for name in names]
    bins = _Bins(layers)
    timesteps = _Timesteps(attribution.timesteps, len(names))
    chosen = attribution.layers.keys() if chosen is None else set(chosen)
    shape = unet_shape(attribution.info.get("family"), attribution.info.get("size"))
    return {
        "format_version": FORMAT,
        "info": _facts(attribution.info),
        "score": attribution.score,
        "weights": attribution.weights_total,
        "keep_ratio": attribution.keep_ratio,
        "unet": None if shape is None else {"levels": shape.levels, "per_level": shape.per_level, "sizes": list(shape.sizes)},
        "timesteps": timesteps.shown,
        "edges": bins.edges,
        "typical": bins.typical(layers, sign),
        "octaves": bins.octaves,
        "left_out": len(attribution.layers) - len(names),
        "layers": [
            {
                **_place(name),
                "chosen": name in chosen,
                "shape": [layer.out_features, layer.in_features],
                "mass": [_rounded(mass, 5) for mass in layer.mass],
                "timestep_mass": timesteps.sums(layer.timestep_mass),
                "complete_above": _rounded(layer.complete_above, 6),
                "below": bins.below(layer),
                "histogram": bins.counts(layer),
                **_rows(layer, sign, attribution, bins, len(names)),
                "units": _units(name, layer, len(names)),
            }
            for name, layer in zip(names, layers, strict=True)
        ],
    }


def _rows(layer: LayerScores, sign: int, attribution: Attribution, bins: _Bins, layers: int) -> dict[str, Any]:
    """What the row rules take at any ratio, and the strongest rows."""
    ranks = row_ranks(layer, sign)
    longest = int(ranks.in_rows.max()) if len(ranks.in_rows) else 0
    most = min(longest, max(1, share_count(attribution.keep_ratio, layer.in_features)))
    listed = max(2, min(_ROWS_OF_A_LAYER, _ROWS // layers))
    added_up = attribution.score != SCORES[1]
    return {
        "rows_by_count": rows_by_count(ranks, most),
        "sums_by_rank": [[k, _rounded(value, 4)] for k, value in sums_by_rank(ranks, most)] if added_up else None,
        "rows": described_rows(layer, listed, sign, bins.edges[0], len(bins.octaves) - 1, _rounded),
    }


def _units(name: str, layer: LayerScores, layers: int) -> dict[str, Any] | None:
    """The neurons or heads whose columns the layer has, strongest first, where their sums are known: numbers and attributions."""
    kind = columns_are(name)
    if kind is None or layer.column_sum is None or (kind == "head" and layer.heads is None):
        return None
    sums = unit_sums(name, layer, kind)
    strongest = sums.abs().sort(descending=True, stable=True).indices[: max(2, min(_ROWS_OF_A_LAYER, _UNITS // layers))].tolist()
    return {"kind": kind, "total": len(sums), "listed": [[unit, _rounded(float(sums[unit]), 3)] for unit in strongest]}


def described_layers(attribution: Attribution) -> list[str]:
    """Names in the UNet's order of computation, of the strongest layers where there are too many."""
    names = list(attribution.layers)
    if len(names) > MAX_LAYERS:
        side = 0 if ablated_sign(attribution.objective) > 0 else 1
        names = sorted(names, key=lambda name: -abs(attribution.layers[name].mass[side]))[:MAX_LAYERS]
    return sorted(names, key=locate)


def _place(name: str) -> dict[str, Any]:
    place = locate(name)
    return {"name": shortened(name, NAME_LIMIT), "side": place.side, "block": place.block, "group": place.group, "part": place.part}


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
        self.octaves = [_rounded(edge, 6) for edge in edges[self._start : self._stop + 1 : _BINS_PER_OCTAVE].tolist()]

    def typical(self, layers: list[LayerScores], sign: int) -> list[float]:
        """The mean magnitude of all kept scores of `sign` in each bin, 0 where none is kept."""
        sums, counts = torch.zeros(HISTOGRAM_BINS, dtype=torch.float64), torch.zeros(HISTOGRAM_BINS, dtype=torch.float64)
        for layer in layers:
            magnitude = (layer.score * sign)[layer.score * sign > 0].float()
            bin_of_each = bin_numbers(magnitude)
            sums += torch.bincount(bin_of_each, weights=magnitude.double(), minlength=HISTOGRAM_BINS)[:HISTOGRAM_BINS]
            counts += torch.bincount(bin_of_each, minlength=HISTOGRAM_BINS)[:HISTOGRAM_BINS]
        merged = [part[self._start : self._stop].unflatten(0, (-1, self._step)).sum(dim=1) for part in (sums, counts)]
        return [_rounded(value, 4) for value in (merged[0] / merged[1].clamp(min=1)).tolist()]

    def below(self, layer: LayerScores) -> list[int]:
        """How many positive and negative scores are below the first edge."""
        counts: list[int] = layer.histogram[:, : self._start].sum(dim=1, dtype=torch.int64).tolist()
        return counts

    def counts(self, layer: LayerScores) -> list[list[int]]:
        """Counts of positive and of negative scores, each [number of the first bin that is given, counts from there on]."""
        merged = layer.histogram[:, self._start : self._stop].long().unflatten(1, (-1, self._step)).sum(dim=2)
        return [trimmed(row) for row in merged]


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
