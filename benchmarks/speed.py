"""What attribution costs beside the paper's reference: evaluations, seconds, memory; a step at full size; growth; applying an edit.

    python -m benchmarks.speed --json speed.json                          # the sandbox and SD 1.5, tens of minutes
    python -m benchmarks.speed --model sd1 --latent 32
    python -m benchmarks.speed --model sdxl --way ours --way floor --device cuda --dtype float16

On the sandbox both run as a whole, and their agreement with a many-sample attribution is compared (benchmarks/agreement.py). At full
size, with random weights, a step of each is measured, and the wall clock of a whole attribution reckoned from the steps it takes.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from typing import Any

import torch

from benchmarks.erasing.settings import machine
from benchmarks.full_size import PIXELS_PER_LATENT, UNETS, full_size_parser, write_json
from benchmarks.timing.apply import apply_times
from benchmarks.timing.growth import growth
from benchmarks.timing.least import least_over_floor
from benchmarks.timing.reference import reference_predictions
from benchmarks.timing.steps import WAYS, extra_memory, seconds
from benchmarks.timing.whole import default_settings, whole, whole_memory
from cad_engine.cost import BACKWARD, evaluations

MODELS = ("sandbox", *UNETS)


def sandbox(options: argparse.Namespace) -> dict[str, Any]:
    """Whole attributions on the sandbox, and how they grow."""
    memory = {way: _in_a_process("--model", "sandbox", "--memory-of", way) for way in ("ours", "reference")}
    return {**whole(options.seeds), "extra_memory_gib": _rounded(memory, 3), "growth": growth()}


def full_size(size: str, options: argparse.Namespace) -> dict[str, Any]:
    """Steps at full size, what whole attributions take by them, and applying an edit."""
    ways, dtype = options.way or list(WAYS), getattr(torch, options.dtype)
    took = seconds(size, options.latent, options.device, dtype, ways, options.repeats)
    place = ["--model", size, "--latent", str(options.latent), "--device", options.device, "--dtype", options.dtype]
    memory = {way: _in_a_process(*place, "--memory-of", way) for way in ways}
    found: dict[str, Any] = {"pixels": options.latent * PIXELS_PER_LATENT, "dtype": options.dtype, "device": options.device}
    if {"floor", "ours"} <= took.keys():
        found["step_over_floor"] = round(took["ours"] / took["floor"], 3)
        found["least_step_over_floor"] = round(least_over_floor(size, options.latent), 3)
    if {"prediction", "ours", "plain"} <= took.keys():
        settings = default_settings("concept")
        steps, plain = settings.trajectories * settings.steps, reference_predictions()
        made = sum(evaluations(settings).values())
        ours = took["ours"] * steps + took["prediction"] * (made - BACKWARD * steps)
        reference = took["plain"] * plain[1] + took["prediction"] * plain[0]
        found["evaluation_ratio"] = round((plain[0] + BACKWARD * plain[1]) / made, 2)
        found["wall_ratio"] = round(reference / ours, 2)
        found["reckoned_seconds"] = {"ours": round(ours, 1), "reference": round(reference, 1)}
    found["seconds_of_a_step"] = _rounded(took, 3)
    found["extra_memory_gib"] = _rounded(memory, 2)
    if options.apply:
        found["apply"] = apply_times(size, options.repeats)
    return found


def _in_a_process(*arguments: str) -> float:
    """What `python -m benchmarks.speed` with `arguments` prints last."""
    command = [sys.executable, "-m", "benchmarks.speed", *arguments]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def _rounded(values: dict[str, float], digits: int) -> dict[str, float]:
    return {name: round(value, digits) for name, value in values.items()}


def main() -> None:
    """Measure what the command line asks for and print it as JSON."""
    parser = full_size_parser("speed", __doc__, latent=16)
    parser.add_argument("--model", action="append", choices=MODELS, help="only this; may be repeated; default sandbox and sd1")
    parser.add_argument("--way", action="append", choices=WAYS, help="only this way of a step; may be repeated; default all")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=3, help="of whole attributions on the sandbox")
    parser.add_argument("--no-apply", dest="apply", action="store_false", help="leave out applying an edit")
    parser.add_argument("--memory-of", choices=(*WAYS, "reference"), help="only print the extra memory of this way, in GiB")
    options = parser.parse_args()
    models = options.model or ["sandbox", "sd1"]
    if options.memory_of is not None:
        dtype = getattr(torch, options.dtype)
        at_full_size = models[0] in UNETS
        print(
            extra_memory(models[0], options.latent, options.device, dtype, options.memory_of)
            if at_full_size
            else whole_memory(options.memory_of)
        )
        return
    torch.set_num_threads(1)
    found = {size: sandbox(options) if size == "sandbox" else full_size(size, options) for size in models}
    write_json({**found, "machine": machine()}, options.json)


if __name__ == "__main__":
    main()
