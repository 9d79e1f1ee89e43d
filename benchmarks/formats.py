"""Does another way of computing pay within one attribution? Channels last, autocast, bfloat16 weights and torch.compile beside float32.

    python -m benchmarks.formats --json formats.json
    python -m benchmarks.formats --model sd1 --latent 16 --way "channels last"

A step is one of cad_engine.while_sampling, forward and backward with gradients of the feed-forward layers, on full-size UNets with random
weights; on the sandbox, where scores mean something, it is a whole attribution of the paper's default. Plain ones are timed right after
each way's. The first step is told apart: it is where a compiler works.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor

from benchmarks.agreement import Agreement
from benchmarks.erasing.settings import machine
from benchmarks.full_size import UNETS, full_size_parser, random_denoiser, write_json
from benchmarks.timing.steps import Steps
from benchmarks.timing.whole import CONCEPT, ours
from cad_engine.checkpoints.denoiser import DiffusersDenoiser
from cad_engine.checkpoints.load import load_model

Way = Callable[[DiffusersDenoiser], AbstractContextManager[Any]]


@contextmanager
def channels_last(denoiser: DiffusersDenoiser) -> Iterator[None]:
    """Convolutions' weights laid out with the channels last, which their outputs follow."""
    denoiser.unet.to(memory_format=torch.channels_last)
    try:
        yield
    finally:
        denoiser.unet.to(memory_format=torch.contiguous_format)


def autocast(denoiser: DiffusersDenoiser) -> AbstractContextManager[Any]:
    """Matrix products and convolutions in bfloat16, weights in float32."""
    return torch.autocast(denoiser.device.type, torch.bfloat16)


@contextmanager
def bfloat16(denoiser: DiffusersDenoiser) -> Iterator[None]:
    """Weights in bfloat16 as well, as with --dtype bfloat16."""
    kept = {name: tensor.clone() for name, tensor in denoiser.unet.state_dict().items()}
    denoiser.unet.to(torch.bfloat16)
    try:
        yield
    finally:
        denoiser.unet.to(torch.float32).load_state_dict(kept)


@contextmanager
def compiled(denoiser: DiffusersDenoiser) -> Iterator[None]:
    """The UNet's forward compiled, with what attribution puts into it."""
    plain = denoiser.unet.forward
    denoiser.unet.forward = torch.compile(plain)
    try:
        yield
    finally:
        denoiser.unet.forward = plain
        torch._dynamo.reset()


WAYS: dict[str, Way] = {
    "channels last": channels_last,
    "autocast bfloat16": autocast,
    "bfloat16 weights": bfloat16,
    "torch.compile": compiled,
}


def step(steps: Steps) -> tuple[float, dict[str, Tensor]]:
    """Seconds and sums of gradients of one step alone."""
    steps.accumulator = None
    began = time.perf_counter()
    steps.ours()
    if steps.denoiser.device.type == "cuda":
        torch.cuda.synchronize()
    took = time.perf_counter() - began
    return took, steps.accumulator.gradients if steps.accumulator is not None else {}


def difference(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> float:
    """The norm of the difference to `theirs`, as part of theirs."""
    squares = [((ours[name].double() - other.double()).square().sum(), other.double().square().sum()) for name, other in theirs.items()]
    return float((sum(one for one, _ in squares) / sum(other for _, other in squares)) ** 0.5)


def full_size(model: str, latent: int, device: str, ways: list[str], repeats: int) -> dict[str, Any]:
    """Each way's step beside float32's on a UNet of full size."""
    denoiser = random_denoiser(model, device, torch.float32)
    steps, found = Steps(denoiser, latent), {}
    step(steps)
    for name in ways:
        with WAYS[name](denoiser):
            first, _ = step(steps)
            other, scores = zip(*(step(steps) for _ in range(repeats)), strict=True)
        plain, expected = zip(*(step(steps) for _ in range(repeats)), strict=True)
        found[name] = {
            "step_over_float32": round(statistics.median(other) / statistics.median(plain), 3),
            "seconds": round(statistics.median(other), 3),
            "first_step_seconds": round(first, 2),
            "difference_of_scores": round(difference(scores[-1], expected[-1]), 5),
        }
        print(name, found[name], flush=True)
    return found


def sandbox(ways: list[str], repeats: int) -> dict[str, Any]:
    """Each way's whole attribution beside float32's on the sandbox, and how well it agrees with many samples in float32."""
    denoiser = load_model("sandbox")
    agreement, found = Agreement(denoiser, CONCEPT, ""), {}
    expected = ours(denoiser, 0)
    for name in ways:
        other, plain = [], []
        for _ in range(repeats):
            with WAYS[name](denoiser):
                began = time.perf_counter()
                scores = ours(denoiser, 0)
                other.append(time.perf_counter() - began)
            began = time.perf_counter()
            ours(denoiser, 0)
            plain.append(time.perf_counter() - began)
        found[name] = {
            "attribution_over_float32": round(statistics.median(other) / statistics.median(plain), 3),
            "difference_of_scores": round(difference(scores, expected), 5),
            "overlap_with_many_samples": round(agreement.of(scores)[0], 3),
        }
        print(name, found[name], flush=True)
    return {"overlap_of_float32": round(agreement.of(expected)[0], 3), **found}


def main() -> None:
    """Measure what the command line asks for and print it as JSON."""
    parser = full_size_parser("formats", __doc__, latent=16)
    parser.add_argument("--model", action="append", choices=("sandbox", *UNETS), help="only this; may be repeated; default sandbox and sd1")
    parser.add_argument("--way", action="append", choices=list(WAYS), help="only this way; may be repeated; default all")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    ways = options.way or list(WAYS)
    found = {
        model: sandbox(ways, options.repeats)
        if model == "sandbox"
        else full_size(model, options.latent, options.device, ways, options.repeats)
        for model in options.model or ["sandbox", "sd1"]
    }
    write_json({**found, "machine": machine()}, options.json)


if __name__ == "__main__":
    main()
