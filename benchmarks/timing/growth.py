"""How cost and memory of an attribution on the sandbox grow with steps, trajectories, concepts and resolution.

Every figure comes from a process of its own, so that none has another's memory.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import Any

from benchmarks.full_size import PeakMemory
from benchmarks.timing.whole import default_settings
from cad_engine.checkpoints.load import load_model
from cad_engine.concept import attribute_concept
from cad_engine.cost import evaluations

CONCEPTS = ("a star", "a heart", "a ring", "a cross")
LATENT = 8
SWEEPS: dict[str, tuple[int, ...]] = {"steps": (2, 4, 8, 16), "trajectories": (5, 10, 20, 40), "concepts": (1, 2, 4), "latent": (8, 16, 24)}
"""What is varied, and its values; "latent" is the side of the latents, of which the area counts."""
BATCH = 5


def one(varied: str, value: int) -> dict[str, float]:
    """Evaluations, seconds and GiB beyond the model with `varied` at `value`; to be called in a fresh process."""
    concepts = CONCEPTS[: value if varied == "concepts" else 1]
    side = value if varied == "latent" else LATENT
    changed = {varied: value} if varied in ("steps", "trajectories") else {}
    settings = [default_settings(concept, BATCH, size=(side, side), **changed) for concept in concepts]
    denoiser = load_model("sandbox")
    attribute_concept(denoiser, default_settings(CONCEPTS[0], BATCH, trajectories=1, steps=1))  # what PyTorch sets up once
    memory, began = PeakMemory("cpu"), time.perf_counter()
    for each in settings:
        attribute_concept(denoiser, each)
    seconds = time.perf_counter() - began
    return {"evaluations": sum(sum(evaluations(each).values()) for each in settings), "seconds": seconds, "extra_memory_gib": memory.gib()}


def growth() -> dict[str, list[dict[str, Any]]]:
    """All sweeps."""
    found: dict[str, list[dict[str, Any]]] = {}
    for varied, values in SWEEPS.items():
        for value in values:
            command = [sys.executable, "-m", "benchmarks.timing.growth", varied, str(value)]
            measured = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            row = {varied: value, **{name: round(number, 4) for name, number in measured.items()}}
            found.setdefault(varied, []).append(row)
    return found


if __name__ == "__main__":
    import torch

    torch.set_num_threads(1)
    print(json.dumps(one(sys.argv[1], int(sys.argv[2]))))
