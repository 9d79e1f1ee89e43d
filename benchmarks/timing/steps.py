"""One step of attribution at full size, beside the floor and the plain way.

A step is a forward of the UNet on one sample and a backward, with gradients of the feed-forward layers:

- `ours`: as cad_engine.while_sampling makes it, with `checkpointing` or without;
- `floor`: the same forward and backward of a frozen UNet down to its first feed-forward layer, which gives no gradient of any weight;
- `plain`: autograd with gradients of all parameters, kept and summed in a second copy, as the paper's reference code does;
- `prediction`: a forward alone, as sampling takes it.

Each way's memory is measured in a process of its own (the peak beyond the model's; Linux), and all by turns in one process for their
time, of which the medians are compared.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from benchmarks.full_size import PeakMemory, RandomDenoiser, random_denoiser
from cad_engine.accumulator import GradientAccumulator
from cad_engine.components import choose_layers
from cad_engine.gradients import captured_gradients

TIMESTEP = 500
WAYS = ("prediction", "floor", "ours", "ours checkpointed", "plain")


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

    @torch.no_grad()
    def prediction(self) -> None:
        """A forward alone."""
        self.denoiser.eps(self.x_t, TIMESTEP, self.concept)

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
        ways = {"prediction": self.prediction, "floor": self.floor, "ours": self.ours, "plain": self.plain}
        return ways.get(name) or (lambda: self.ours(checkpointing=True))


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
