"""Attributions from random dense scores, through the engine's own reduction; layer names of the real models."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from cad_engine.attribution import Attribution, reduce_scores

FF = ("ff.net.0.proj", "ff.net.2")

# {block: transformer blocks} of Stable Diffusion 1.5 and XL.
SD15 = {f"input_blocks.{n}.1": 1 for n in (1, 2, 4, 5, 7, 8)} | {"middle_block.1": 1} | {f"output_blocks.{n}.1": 1 for n in range(3, 12)}
SDXL = {
    **{f"input_blocks.{n}.1": 2 for n in (4, 5)},
    **{f"input_blocks.{n}.1": 10 for n in (7, 8)},
    "middle_block.1": 10,
    **{f"output_blocks.{n}.1": 10 for n in range(3)},
    **{f"output_blocks.{n}.1": 2 for n in range(3, 6)},
}


def ff_names(model: dict[str, int]) -> list[str]:
    """Checkpoint names of the feed-forward weights, in the order of computation."""
    return [
        f"diffusion_model.{block}.transformer_blocks.{number}.{part}.weight"
        for block, count in model.items()
        for number in range(count)
        for part in FF
    ]


def random_attribution(
    names: Sequence[str],
    *,
    objective: str = "erase",
    shape: tuple[int, int] = (16, 40),
    keep_ratio: float | None = None,
    steps: int = 4,
    scale: float = 1e-4,
    concept: str = "star",
) -> Attribution:
    generator = torch.Generator().manual_seed(0)
    scores = {name: torch.randn(shape, generator=generator) ** 3 * scale for name in names}
    for score in scores.values():
        score[0] = 0  # a dead row
    mass = {name: torch.stack([score.clamp(min=0).sum(), score.clamp(max=0).sum()]).repeat(steps, 1) for name, score in scores.items()}
    timesteps = list(range(999, 0, -(1000 // steps)))[:steps]
    return reduce_scores(scores, mass, timesteps, {"objective": objective, "concept": concept}, keep_ratio)
