"""Selecting and applying an edit at full size: what a slider's move and a run of CAD Erase take."""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.full_size import random_denoiser
from cad_engine.attribution import reduce_scores
from cad_engine.attribution_file import load_attribution, save_attribution
from cad_engine.components import choose_layers
from cad_engine.edit import applied
from cad_engine.edit_file import load_edit, save_edit
from cad_engine.erasure import edit_from_attribution

RATIO = 0.001
MIB = 2**20


def apply_times(model: str, repeats: int) -> dict[str, Any]:
    """Seconds of each part, medians, and the sizes of the files, for random scores of all feed-forward layers."""
    denoiser = random_denoiser(model, "cpu", torch.float32)
    names = choose_layers(denoiser.layers, ["ff"])
    generator = torch.Generator().manual_seed(0)
    scores = {name: torch.randn(denoiser.layers[name].weight.shape, generator=generator) for name in names}
    mass = {name: torch.ones(1, 2, dtype=torch.float64) for name in names}
    weights = {name: denoiser.layers[name].weight for name in names}
    attribution = reduce_scores(scores, mass, [500], {"objective": "erase", "concept": "random"})
    del scores
    times: dict[str, list[float]] = {}

    def timed(part: str, began: float) -> None:
        times.setdefault(part, []).append(time.perf_counter() - began)

    with tempfile.TemporaryDirectory() as folder:
        attribution_file, edit_file = Path(folder, "attribution.safetensors"), Path(folder, "edit.safetensors")
        for _ in range(repeats):
            began = time.perf_counter()
            save_attribution(attribution_file, attribution)
            timed("save the attribution", began)
            began = time.perf_counter()
            attribution = load_attribution(attribution_file)
            timed("load the attribution", began)
            began = time.perf_counter()
            edit = edit_from_attribution(attribution, RATIO, "row")
            timed("select", began)
            began = time.perf_counter()
            with applied(edit, weights):
                timed("apply", began)
                began = time.perf_counter()
            timed("take back", began)
            save_edit(edit_file, edit)
            load_edit(edit_file)
        sizes = {"attribution_mib": attribution_file.stat().st_size / MIB, "edit_mib": edit_file.stat().st_size / MIB}
    return {
        "weights": len(edit),
        "seconds": {part: round(statistics.median(values), 3) for part, values in times.items()},
        **{name: round(size, 2) for name, size in sizes.items()},
    }
