"""The words that a text encoder of ComfyUI's knows, and which of them are near each other."""

from __future__ import annotations

import comfy.sd
import torch

from ..cad_engine.vocabulary import Vocabulary

_PARTS = ("clip_l", "clip_h", "clip_g")
"""ComfyUI's names of a text encoder of Stable Diffusion 1.x or XL, of 2.x, and of XL's second alone, as in its refiner."""


@torch.no_grad()
def vocabulary(clip: comfy.sd.CLIP) -> Vocabulary | None:
    """The vocabulary of the first of the text encoders in `clip`, which is loaded for it; None when it is of another build.

    Tokens are embedded with ComfyUI's own layer, so that cast, offloaded, quantised and patched weights are what its prompts are made of.
    """
    for part in _PARTS:
        tokenizer, encoder = getattr(clip.tokenizer, part, None), getattr(clip.cond_stage_model, part, None)
        known, layer = getattr(tokenizer, "tokenizer", None), getattr(encoder, "transformer", None)
        if not (hasattr(known, "get_vocab") and hasattr(layer, "get_input_embeddings")):
            continue
        tokens = known.get_vocab()
        embed = layer.get_input_embeddings()
        rows = getattr(embed, "num_embeddings", 0)
        if not tokens or max(tokens.values()) >= rows:
            return None  # words that the model has no embedding of
        clip.load_model()
        return Vocabulary(tokens.items(), embed(torch.arange(rows, device=clip.patcher.load_device), out_dtype=torch.float32))
    return None
