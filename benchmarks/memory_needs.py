"""What attribution of the feed-forward layers takes at full size, by the estimate that the engine makes before it begins.

    python -m benchmarks.memory_needs --model sd1 --latent 64 --dtype float16 --card 6
    python -m benchmarks.memory_needs --model sdxl --latent 128 --dtype float16 --card 12

Nothing is computed: the model is one of shapes alone, so that it is the same on every machine and takes seconds. `--device cpu` lets the
estimate run on a model that is there, as the engine does. With `--card`, it says what is picked for batch 4 on a GPU with so many GiB on
which only the UNet is, and a host with room for the sums.
"""

from __future__ import annotations

import argparse
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.full_size import PIXELS_PER_LATENT, UNETS, full_size_parser, random_denoiser, write_json
from cad_engine.activations import measured_activations
from cad_engine.components import choose_layers
from cad_engine.footprint import Needs, fitting

GIB = 2**30
CONTEXT = 0.5
"""GiB of a GPU that its driver and PyTorch's kernels are allowed for; assumed, not measured."""


def fused_attention(q: Tensor, k: Tensor, v: Tensor, *_: Any, **__: Any) -> Tensor:
    """Attention of shapes alone that saves what the fused kernels of every device do; without this it would save all weights."""
    out: Tensor = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(q, k, v)[0]
    return out


def needs(model: str, latent: int, device: str, dtype: torch.dtype) -> tuple[int, Needs]:
    """Bytes of the UNet's weights, and what attribution takes beside them."""
    denoiser = random_denoiser(model, device, dtype)
    targets: dict[str, Any] = {name: denoiser.layers[name] for name in choose_layers(denoiser.layers, ["ff"])}
    before = F.scaled_dot_product_attention
    if device == "meta":
        F.scaled_dot_product_attention = fused_attention
    try:
        activations = measured_activations(denoiser, targets, torch.zeros(1, 4, latent, latent), denoiser.encode_prompt("a"))
    finally:
        F.scaled_dot_product_attention = before
    weights = sum(p.numel() * p.element_size() for p in denoiser.unet.parameters())
    return weights, Needs(4 * sum(layer.weight.numel() for layer in targets.values()), activations)


def arguments() -> argparse.Namespace:
    """What the command line asks for."""
    parser = full_size_parser("memory_needs", __doc__, latent=64)
    parser.add_argument("--model", choices=tuple(UNETS), default="sd1")
    parser.add_argument("--card", type=float, help="GiB of a GPU for which to say what is picked")
    parser.set_defaults(device="meta")
    return parser.parse_args()


def main() -> None:
    """Print the estimate as JSON."""
    options = arguments()
    weights, needed = needs(options.model, options.latent, options.device, getattr(torch, options.dtype))
    sizes = {
        "weights": weights,
        "sums": needed.sums,
        "activations": needed.activations.kept,
        "activations_checkpointed": needed.activations.checkpointed,
    }
    found: dict[str, Any] = {"model": options.model, "pixels": options.latent * PIXELS_PER_LATENT, "dtype": options.dtype}
    found["gib"] = {name: round(size / GIB, 2) for name, size in sizes.items()}
    if options.card is not None:
        picked = fitting(4, None, needed, round((options.card - CONTEXT) * GIB) - weights, 2 * needed.sums)
        found["picked"] = str(picked)
        found["of_the_card"] = round(CONTEXT + (weights + needed.on_device(picked)) / GIB, 2)
    write_json(found, options.json)


if __name__ == "__main__":
    main()
