"""Training pictures of the sandbox's world, drawn once and captioned anew each time they are used."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..world import COLOURS, RARE_SHAPE, SHAPES, STYLES, Scene, render


@dataclass
class Pictures:
    """`pixels` [N, 3, 64, 64] uint8 and the scene of each."""

    pixels: Tensor
    scenes: list[Scene]

    def batch(self, index: np.ndarray | Tensor) -> Tensor:
        """The pictures at `index` as float32 in [0, 1]."""
        return self.pixels[torch.as_tensor(index)].float() / 255

    def labels(self, index: np.ndarray) -> list[Tensor]:
        """Class numbers of shape, colour and style, [len(index)] each."""
        scenes = [self.scenes[i] for i in index]
        return [
            torch.tensor([known.index(getattr(scene, part)) for scene in scenes])
            for part, known in (("shape", SHAPES), ("colour", COLOURS), ("style", STYLES))
        ]


def _draw(task: tuple[list[Scene], np.random.SeedSequence]) -> np.ndarray:
    scenes, seed = task
    rng = np.random.default_rng(seed)
    return np.stack([(render(scene, rng) * 255).round().astype(np.uint8) for scene in scenes])


def draw(count: int, seed: int, rare_share: float | None = None, workers: int = 2) -> Pictures:
    """`count` random pictures; the rare shape has its even share of them, or `rare_share`."""
    rng = np.random.default_rng(seed)
    common = [shape for shape in SHAPES if shape != RARE_SHAPE]
    scenes = []
    for _ in range(count):
        rare = rng.random() < (1 / len(SHAPES) if rare_share is None else rare_share)
        shape = RARE_SHAPE if rare else str(rng.choice(common))
        scenes.append(Scene(shape, str(rng.choice(COLOURS)), str(rng.choice(STYLES))))
    chunks = [scenes[start : start + 250] for start in range(0, count, 250)]
    seeds = np.random.SeedSequence(seed).spawn(len(chunks))
    with ProcessPoolExecutor(workers) as pool:
        pixels = np.concatenate(list(pool.map(_draw, zip(chunks, seeds, strict=True))))
    return Pictures(torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous(), scenes)


def drawn_once(path: Path, count: int, seed: int, rare_share: float | None = None) -> Pictures:
    """The pictures kept at `path`, drawn and kept there if they are not yet."""
    if not path.exists():
        pictures = draw(count, seed, rare_share)
        torch.save({"pixels": pictures.pixels, "scenes": [astuple(scene) for scene in pictures.scenes]}, path)
    kept = torch.load(path, weights_only=True)
    return Pictures(kept["pixels"], [Scene(*labels) for labels in kept["scenes"]])
