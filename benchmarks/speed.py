"""What one step of attribution costs at full size, beside the floor and the plain way, with random weights.

    python -m benchmarks.speed --model sd1 --latent 32 --json speed.json
    python -m benchmarks.speed --model sdxl --latent 32 --way ours --way floor

A step is a forward of the UNet on one sample and a backward, with gradients of the feed-forward layers:

- `ours`: as cad_engine.while_sampling makes it, with `checkpointing` or without;
- `floor`: the same forward and backward of a frozen UNet down to its first feed-forward layer, which gives no gradient of any weight;
- `plain`: autograd with gradients of all parameters, kept and summed in a second copy, as the paper's reference code does.

Each way runs in a process of its own for its memory (the peak beyond the model's; Linux), and all by turns in one process for
their time, of which the medians are compared.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.erasing.settings import machine
from benchmarks.full_size import PIXELS_PER_LATENT, PeakMemory, RandomDenoiser, full_size_parser, random_denoiser, write_json
from cad_engine.accumulator import GradientAccumulator
from cad_engine.components import choose_layers
from cad_engine.gradients import captured_gradients

TIMESTEP = 500
WAYS = ("floor", "ours", "ours checkpointed", "plain")


class Steps:
    """Steps on one sample of `latent` x `latent`; each way sets up what it needs at its first step, and keeps it."""

    def __init__(self, denoiser: RandomDenoiser, latent: int) -> None:
        self.denoiser = denoiser
        self.layers = {name: denoiser.layers[name] for name in choose_layers(denoiser.layers, ["ff"])}
        generator = torch.Generator().manual_seed(0)
        self.x_t = torch.randn(1, 4, latent, latent, generator=generator).to(denoiser.device)
        self.concept, self.base = denoiser.encode_prompt("a"), denoiser.encode_prompt("")
        with torch.no_grad():
            self.target = denoiser.eps(self.x_t, TIMESTEP, self.base)
        self.accumulator: GradientAccumulator | None = None
        self.sums: list[Tensor] = []

    def loss(self) -> Tensor:
        """The squared error of one prediction."""
        return (self.denoiser.eps(self.x_t, TIMESTEP, self.concept) - self.target).square().sum()

    def floor(self) -> None:
        """Forward and backward down to the first target layer, and no gradient of a weight."""
        anchor = torch.zeros((), device=self.denoiser.device, requires_grad=True)
        first = min(self.layers, key=list(self.denoiser.layers).index)
        hook = self.layers[first].register_forward_hook(lambda module, given, output: output + anchor.to(output.dtype))
        try:
            torch.autograd.grad(self.loss(), anchor)
        finally:
            hook.remove()

    def ours(self, checkpointing: bool = False) -> None:
        """A step of cad_engine.while_sampling."""
        denoiser = self.denoiser
        if self.accumulator is None:
            self.accumulator = GradientAccumulator(self.layers, 1, denoiser.weight_access, torch.float32, denoiser.device)
        self.accumulator.at(0, 1.0)
        with captured_gradients(
            denoiser.unet, self.layers, self.accumulator, denoiser.weight_access, checkpointing=checkpointing
        ) as anchor:
            torch.autograd.grad(self.loss(), anchor)

    def plain(self) -> None:
        """Autograd of all parameters, and the sum of their gradients in a second copy."""
        parameters: list[nn.Parameter] = list(self.denoiser.unet.parameters())
        self.denoiser.unet.requires_grad_(True)
        try:
            self.loss().backward()
        finally:
            self.denoiser.unet.requires_grad_(False)
        if not self.sums:
            self.sums = [torch.zeros_like(parameter) for parameter in parameters]
        for total, parameter in zip(self.sums, parameters, strict=True):
            if parameter.grad is not None:
                total += parameter.grad

    def way(self, name: str) -> Callable[[], None]:
        """One of WAYS as a step."""
        return {"floor": self.floor, "ours": self.ours, "ours checkpointed": lambda: self.ours(True), "plain": self.plain}[name]


def extra_memory(model: str, latent: int, device: str, dtype: torch.dtype, way: str) -> float:
    """GiB that two steps of `way` take beyond the model; to be called in a fresh process."""
    steps = Steps(random_denoiser(model, device, dtype), latent)
    memory = PeakMemory(device)
    for _ in range(2):
        steps.way(way)()
    return memory.gib()


def seconds(model: str, latent: int, device: str, dtype: torch.dtype, ways: list[str], repeats: int) -> dict[str, float]:
    """The median of a step of each way, by turns, after one of each that does not count."""
    steps = Steps(random_denoiser(model, device, dtype), latent)
    found: dict[str, list[float]] = {way: [] for way in ways}
    for turn in range(repeats + 1):
        for way in ways:
            began = time.perf_counter()
            steps.way(way)()
            if device == "cuda":
                torch.cuda.synchronize()
            if turn:
                found[way].append(time.perf_counter() - began)
    return {way: statistics.median(times) for way, times in found.items()}


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Time and memory of the chosen ways, and what they are to one another."""
    ways, dtype = options.way or list(WAYS), getattr(torch, options.dtype)
    took = seconds(options.model, options.latent, options.device, dtype, ways, options.repeats)
    extra = {}
    for way in ways:
        command = [sys.executable, "-m", "benchmarks.speed", "--model", options.model, "--latent", str(options.latent)]
        command += ["--device", options.device, "--dtype", options.dtype, "--memory-of", way]
        extra[way] = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])
    ratios = {}
    if {"floor", "ours"} <= took.keys():
        ratios["step_over_floor"] = took["ours"] / took["floor"]
    if {"plain", "ours"} <= took.keys():
        ratios["plain_over_step"] = took["plain"] / took["ours"]
    return {
        "model": options.model,
        "pixels": options.latent * PIXELS_PER_LATENT,
        "dtype": options.dtype,
        "device": options.device,
        **{name: round(ratio, 3) for name, ratio in ratios.items()},
        "seconds": {way: round(value, 3) for way, value in took.items()},
        "extra_memory_gib": {way: round(value, 2) for way, value in extra.items()},
        "machine": machine(),
    }


def main() -> None:
    """Measure what the command line asks for and print it as JSON."""
    parser = full_size_parser("speed", __doc__, latent=32)
    parser.add_argument("--way", action="append", choices=WAYS, help="only this; may be repeated; default all")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--memory-of", choices=WAYS, help="only print the extra memory of this way, in GiB")
    options = parser.parse_args()
    if options.memory_of is not None:
        print(extra_memory(options.model, options.latent, options.device, getattr(torch, options.dtype), options.memory_of))
        return
    write_json(measure(options), options.json)


if __name__ == "__main__":
    main()
