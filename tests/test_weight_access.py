"""Weights that are not where the module is: the engine sees them only through the access that it is handed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from cad_engine.attribution import attribution_scores
from cad_engine.components import choose_layers
from cad_engine.objective import erase_objective
from cad_engine.trajectory import sample_trajectories
from tests.tiny_models import conditioning, tiny_denoiser


def test_attribution_of_weights_that_are_not_resident() -> None:
    """Linear and convolution weights live in a store, the modules hold meta tensors; the scores are the same."""
    denoiser = tiny_denoiser()
    concept, base = conditioning("sd1", 1), conditioning("sd1", 2)
    points, _ = sample_trajectories(denoiser, concept, base, trajectories=2, steps=2)
    objective = erase_objective(denoiser, concept, base, points)
    names = choose_layers(denoiser.layers, ["ff"])
    expected, _ = attribution_scores(denoiser, objective, names)

    store: dict[int, Tensor] = {}
    for module in denoiser.unet.modules():
        if isinstance(module, (nn.Linear, nn.Conv2d)):
            store[id(module)] = module.weight.data
            module.weight = nn.Parameter(torch.empty_like(module.weight, device="meta"), requires_grad=False)
    out, most_out = 0, 0

    @contextmanager
    def fetched(module: Any, like: Tensor) -> Iterator[tuple[Any, Any]]:
        nonlocal out, most_out
        out, most_out = out + 1, max(most_out, out + 1)
        yield store[id(module)].clone() if id(module) in store else module.weight, module.bias
        out -= 1

    denoiser.weight_access = fetched
    ours, _ = attribution_scores(denoiser, objective, names)
    assert most_out == 1  # one layer's weight at a time
    assert out == 0
    for name in names:
        torch.testing.assert_close(ours[name], expected[name])


def test_the_effective_weight_counts_not_the_stored_one() -> None:
    """A patch on the fly (a LoRA, say) is part of w in w * dJ/dw and of the network in dJ/dw."""
    patched, plain = tiny_denoiser(), tiny_denoiser()
    concept, base = conditioning("sd1", 1), conditioning("sd1", 2)
    names = choose_layers(patched.layers, ["ff"])
    changed = patched.layers[names[0]]
    delta = 0.1 * torch.randn(changed.weight.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(9))
    with torch.no_grad():
        plain.layers[names[0]].weight += delta
    points, _ = sample_trajectories(plain, concept, base, trajectories=2, steps=2)
    objective = erase_objective(plain, concept, base, points)
    expected, _ = attribution_scores(plain, objective, names)

    @contextmanager
    def with_patch(module: Any, like: Tensor) -> Iterator[tuple[Any, Any]]:
        yield (module.weight + delta if module is changed else module.weight), module.bias

    patched.weight_access = with_patch
    ours, _ = attribution_scores(patched, objective, names)
    for name in names:
        torch.testing.assert_close(ours[name], expected[name])
