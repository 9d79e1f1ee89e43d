"""What one forward says that a pass will take, beside what it takes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.memory_needs import fused_attention
from cad_engine.activations import measured_activations
from cad_engine.components import choose_layers
from cad_engine.gradients import captured_gradients
from tests.live_memory import LiveMemory, tensors_of
from tests.tiny_models import FAMILIES, assert_unchanged, conditioning, snapshot, tiny_denoiser


def discard(name: str, x: Tensor, g: Tensor) -> None:
    """A sink that keeps nothing: sums are not activations."""


def taken(denoiser: Any, family: str, batch: int, side: int, checkpointing: bool) -> int:
    """The most that tensors of one forward and backward take at once."""
    layers = {name: denoiser.layers[name] for name in choose_layers(denoiser.layers, ["ff"])}
    x_t = torch.randn(batch, 4, side, side)
    with (
        LiveMemory([*tensors_of(denoiser.unet), x_t]) as memory,
        captured_gradients(denoiser.unet, layers, discard, checkpointing=checkpointing) as anchor,
    ):
        torch.autograd.grad(denoiser.eps(x_t, 500, conditioning(family, 0, torch.float32)).square().sum(), anchor)
    return memory.peak


@pytest.mark.parametrize("side", [16, 48])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_estimate_is_enough_and_not_far_too_much(family: str, side: int) -> None:
    denoiser = tiny_denoiser(family, torch.float32)
    before = snapshot(denoiser)
    targets = {name: denoiser.layers[name] for name in choose_layers(denoiser.layers, ["ff"])}
    found = measured_activations(denoiser, targets, torch.zeros(1, 4, side, side), conditioning(family, 0, torch.float32))
    assert_unchanged(denoiser, before)
    kept, checkpointed = (taken(denoiser, family, 1, side, checkpointing) for checkpointing in (False, True))
    # In so small a model what passes through backward, which is allowed for beside what is saved, is much of what checkpointing leaves.
    assert kept <= found.kept <= 1.25 * kept
    assert checkpointed <= found.checkpointed <= 2.1 * checkpointed
    assert found.checkpointed < found.kept
    assert taken(denoiser, family, 3, side, False) <= 3 * found.kept
    assert taken(denoiser, family, 3, side, True) <= 3 * found.checkpointed


def test_measuring_takes_no_more_than_a_forward() -> None:
    denoiser = tiny_denoiser("sd1", torch.float32)
    targets = {name: denoiser.layers[name] for name in choose_layers(denoiser.layers, ["ff"])}
    x_t, concept = torch.zeros(1, 4, 48, 48), conditioning("sd1", 0, torch.float32)
    with LiveMemory([*tensors_of(denoiser.unet), x_t]) as measuring:
        measured_activations(denoiser, targets, x_t, concept)
    with LiveMemory([*tensors_of(denoiser.unet), x_t]) as forward, torch.no_grad():
        denoiser.eps(x_t, 500, concept)
    assert measuring.peak <= 1.1 * forward.peak


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_of_shapes_alone_is_estimated_alike(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for device in ("cpu", "meta"):
        denoiser = tiny_denoiser(family, torch.float32)
        denoiser.unet.to(device)
        denoiser.device = torch.device(device)
        if device == "meta":
            monkeypatch.setattr(F, "scaled_dot_product_attention", fused_attention)
        targets = {name: denoiser.layers[name] for name in choose_layers(denoiser.layers, ["ff"])}
        found.append(measured_activations(denoiser, targets, torch.zeros(1, 4, 16, 16), conditioning(family, 0, torch.float32)))
    cpu, meta = found
    assert abs(meta.kept / cpu.kept - 1) < 0.02
    assert abs(meta.checkpointed / cpu.checkpointed - 1) < 0.02
