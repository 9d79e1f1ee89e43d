"""Text encoders inside single-file checkpoints: CLIP in Hugging Face's names, or OpenCLIP with its joined projections."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor
from transformers import CLIPTokenizer

from .names import rename
from .reader import CheckpointFile, Shape

Layout = Literal["huggingface", "openclip"]

_OPEN_CLIP_LAYER = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
}
_JOINED = ("q_proj", "k_proj", "v_proj")


@dataclass(frozen=True)
class TextEncoder:
    """One text encoder of a checkpoint: where it is, in which names, and how to build it.

    Attributes:
        prefix: what comes before its weights' names in the file.
        layout: whose names they are.
        config: settings of transformers' CLIPTextConfig.
        projected: whether it projects the pooled output (CLIPTextModelWithProjection).
        make_tokenizer: builds its tokenizer.
    """

    prefix: str
    layout: Layout
    config: dict[str, Any]
    projected: bool
    make_tokenizer: Callable[[], CLIPTokenizer]

    def fetch(self, file: CheckpointFile, name: str, shape: Shape) -> Tensor:
        """The weight that transformers calls `name`, of `shape`; CadError when the file does not have it so."""
        name = name.removeprefix("text_model.")
        if self.layout == "huggingface":
            return file.tensor(self.prefix + name, shape)
        return self._fetch_open_clip(file, name, shape)

    def _fetch_open_clip(self, file: CheckpointFile, name: str, shape: Shape) -> Tensor:
        if name == "text_projection.weight":
            # OpenCLIP's projection is a parameter that multiplies from the right; ComfyUI reads both spellings.
            if self.prefix + name in file.shapes:
                return file.tensor(self.prefix + name, shape)
            return file.tensor(self.prefix + "text_projection", shape[::-1]).T.contiguous()
        parent, _, leaf = name.rpartition(".")
        owner, _, part = parent.rpartition(".")
        if part in _JOINED:
            source = rename(owner, self._modules())
            joined = file.tensor(f"{self.prefix}{source}.in_proj_{leaf}", (3 * shape[0], *shape[1:]))
            return joined.chunk(3)[_JOINED.index(part)]
        if name == "embeddings.position_embedding.weight":
            return file.tensor(self.prefix + "positional_embedding", shape)
        return file.tensor(self.prefix + rename(name, self._modules()), shape)

    def _modules(self) -> dict[str, str]:
        names = {"embeddings.token_embedding": "token_embedding", "final_layer_norm": "ln_final"}
        for layer in range(self.config["num_hidden_layers"]):
            ours, theirs = f"encoder.layers.{layer}", f"transformer.resblocks.{layer}"
            names |= {f"{ours}.{part}": f"{theirs}.{name}" for part, name in _OPEN_CLIP_LAYER.items()}
            names[f"{ours}.self_attn"] = f"{theirs}.attn"
        return names
