"""The sandbox in place of the checkpoints that a workflow names, so that it can be run anywhere, to its last node."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from cad_engine.sandbox.checkpoint import SANDBOX_FILE

Prompt = Mapping[str, Mapping[str, Any]]

WORDS = {
    "": "",
    "a painting in the style of van gogh": "a shape in dotted style",
    "a painting": "a shape",
    "a wheat field in the style of van gogh": "a red ring in dotted style",
    "a wheat field in the style of van gogh, shuimobysim, shukezouma": "a red ring in dotted style",
    "a wheat field in the style of rembrandt": "a red ring in striped style",
    "naked": "star",
    "dressed": "shape",
    "a renaissance painting of bathers by a lake": "a red ring in striped style",
    "church": "star",
    "building": "shape",
    "a photo of a church in a village": "a blue star",
    "a photo of a lighthouse by the sea": "a blue arrow",
}
"""What the sandbox understands in place of the words in the workflows."""

KEEP = "a red circle\na blue square in striped style"
CONTEXTS = "a photo of {}"
QUICK = {"trajectories": 4, "steps": 4, "rounds": 2, "batch": 20}


def on_the_sandbox(prompt: Prompt) -> dict[str, dict[str, Any]]:
    """`prompt` with the sandbox in place of Load Checkpoint, and with words and sizes that suit it; all else as it is.

    A prompt that is on the sandbox already stays as it is.
    """
    changed = {key: {"class_type": node["class_type"], "inputs": dict(node["inputs"])} for key, node in prompt.items()}
    if any(node["class_type"] == "CADLoadSandbox" for node in changed.values()):
        return changed
    for node in changed.values():
        inputs = node["inputs"]
        match node["class_type"]:
            case "CheckpointLoaderSimple":
                node["class_type"], node["inputs"] = "CADLoadSandbox", {}  # the same outputs in the same order
            case "CLIPTextEncode":
                inputs["text"] = WORDS[inputs["text"]]
            case "EmptyLatentImage":
                inputs.update(width=64, height=64)
            case "CADAttribute":
                words = {"concept": WORDS[inputs["concept"]], "base": WORDS[inputs["base"]], "keep": KEEP, "contexts": CONTEXTS}
                inputs.update(words, **QUICK)
    return changed


def save_lora(path: Path, rank: int = 2, seed: int = 0) -> None:
    """A LoRA of random numbers for the sandbox's feed-forward and cross-attention layers, with names that ComfyUI understands."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, weight in load_file(SANDBOX_FILE).items():
        layer = name.removeprefix("model.").removesuffix(".weight")
        if (".ff.net." in layer or ".attn2." in layer) and weight.ndim == 2:
            rows, columns = weight.shape
            tensors[f"{layer}.lora_up.weight"] = torch.randn(rows, rank, generator=generator) / rank
            tensors[f"{layer}.lora_down.weight"] = torch.randn(rank, columns, generator=generator) / columns
    assert tensors
    save_file(tensors, path)
