"""Graphs on the sandbox that several tests build: loading it, attributing, painting; and what comes out as tensors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from cad_engine.attribution import Attribution
from cad_engine.sandbox.evaluation import CFG, STEPS, Case

from .graph import Graph, Link, Node

SETTINGS = {
    "keep": "",
    "contexts": "",
    "objective": "erase",
    "method": "paper",
    "components": "ff",
    "trajectories": 20,
    "steps": 10,
    "cfg": 3.0,
    "seed": 0,
    "rounds": 3,
    "width": 0,
    "height": 0,
    "prompt": "",
    "spacing": "trailing",
    "batch": 20,
    "checkpointing": False,
    "largest_ratio": 0.0,
    "cache": False,
    "vary": False,
}
"""Of CAD Attribute: the paper's choices, which are quick, with a batch that is faster here and no cache."""

QUICK = {"trajectories": 2, "steps": 3}
"""An attribution in a second or two."""

KEY_AND_VALUE = "cross-attention key + value"

IN_ROUNDS = {
    "method": "rounds",
    "keep": "a heart\na red circle",
    "components": KEY_AND_VALUE,
    "trajectories": 4,
    "steps": 4,
    "rounds": 2,
}
"""One that finds its edit itself, in some ten seconds."""


def sandbox(graph: Graph) -> tuple[Link, Link, Link]:
    """MODEL, CLIP and VAE."""
    node = graph.add("CADLoadSandbox")
    return node[0], node[1], node[2]


def attribute(graph: Graph, model: Link | Node, clip: Link, concept: str = "a star", base: str = "a shape", **settings: object) -> Node:
    """CAD Attribute with `settings` in place of SETTINGS."""
    return graph.add("CADAttribute", **{"model": model, "clip": clip, "concept": concept, "base": base, **SETTINGS, **settings})


def erase(graph: Graph, model: Link | Node, attribution: Link | Node, ratio: float | str = 0.03, **settings: object) -> Node:
    """CAD Erase."""
    return graph.add(
        "CADErase", **{"model": model, "attribution": attribution, "ratio": ratio, "selection": "row", "strength": 1.0, **settings}
    )


def painted(graph: Graph, model: Link | Node, clip: Link, vae: Link, cases: Sequence[Case], steps: int = STEPS) -> Node:
    """SaveImage of the pictures of `cases`, in their order, painted with the stock nodes."""
    empty = graph.add("CLIPTextEncode", text="", clip=clip)
    texts = {text: graph.add("CLIPTextEncode", text=text, clip=clip) for text in {case.prompt for case in cases}}
    latent = graph.add("EmptyLatentImage", width=64, height=64, batch_size=1)
    batch: Node | None = None
    for case in cases:
        sampled = graph.add(
            "KSampler",
            model=model,
            seed=case.seed,
            steps=steps,
            cfg=CFG,
            sampler_name="ddim",
            scheduler="ddim_uniform",
            positive=texts[case.prompt],
            negative=empty,
            latent_image=latent,
            denoise=1.0,
        )
        batch = sampled if batch is None else graph.add("LatentBatch", samples1=batch, samples2=sampled)
    return graph.add("SaveImage", images=graph.add("VAEDecode", samples=batch, vae=vae), filename_prefix="cad")


def as_tensor(pictures: Sequence[Image.Image]) -> Tensor:
    """[N, 3, H, W] in [0, 1]."""
    return torch.from_numpy(np.stack([np.asarray(picture) for picture in pictures])).permute(0, 3, 1, 2).float() / 255


def dense(attribution: Attribution) -> dict[str, Tensor]:
    """All scores by layer [out * in]."""
    result = {}
    for name, layer in attribution.layers.items():
        result[name] = torch.zeros(layer.out_features * layer.in_features)
        result[name][layer.index] = layer.score
    return result


def dense_changes(attribution: Attribution) -> dict[str, Tensor]:
    """By layer [out * in], by how much an attribution that was solved in rounds changes each weight, relative to it."""
    result = {}
    for name, layer in attribution.layers.items():
        assert layer.factor is not None
        result[name] = torch.zeros(layer.out_features * layer.in_features)
        result[name][layer.index] = layer.factor - 1
    return result
