"""CLIP score (Hessel et al. 2021): how well a picture fits a text, by a CLIP model that the user has."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..errors import CadError, first_line

BATCH = 16


class Clip:
    """A CLIP model as transformers saves it, with its processor, such as a copy of openai/clip-vit-base-patch32.

    Raises CadError when `folder` is none.
    """

    def __init__(self, folder: Path, device: str = "cpu") -> None:
        from transformers import CLIPModel, CLIPProcessor

        if not Path(folder).is_dir():
            raise CadError(f"there is no folder {folder}; give one with a CLIP model as transformers saves it")
        try:
            self._model = CLIPModel.from_pretrained(folder, local_files_only=True, use_safetensors=True).eval().to(device)
            self._processor = CLIPProcessor.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        except (OSError, ValueError, KeyError) as error:
            raise CadError(f"{folder} cannot be read as a CLIP model with its processor ({first_line(error)})") from error

    @torch.no_grad()
    def scores(self, pictures: Tensor, texts: Sequence[str]) -> Tensor:
        """100 x the cosine of picture and text embedding, at least 0, float [B]; texts longer than the model takes are cut.

        Args:
            pictures: [B, 3, H, W] in [0, 1].
            texts: one for each.
        """
        found = []
        for start in range(0, len(pictures), BATCH):
            part = slice(start, start + BATCH)
            given = self._processor(
                text=list(texts[part]), images=as_images(pictures[part]), return_tensors="pt", padding=True, truncation=True
            )
            out = self._model(**given.to(self._model.device))
            found.append(torch.nn.functional.cosine_similarity(out.image_embeds, out.text_embeds).clamp(min=0).mul(100).float().cpu())
        return torch.cat(found) if found else torch.zeros(0)


class ClipScore:
    """How well pictures fit `text`; with None, each its own prompt. See Clip.scores."""

    counts = False

    def __init__(self, clip: Clip, text: str | None = None) -> None:
        self._clip, self._text = clip, text
        self.name = "CLIP score with the prompt" if text is None else f"CLIP score with “{text}”"

    def values(self, pictures: Tensor, prompts: Sequence[str]) -> Tensor:
        """See Measure.values."""
        return self._clip.scores(pictures, prompts if self._text is None else [self._text] * len(pictures))


def as_images(pictures: Tensor) -> list[Image.Image]:
    """Pictures [B, 3, H, W] in [0, 1] as what processors of transformers take."""
    pixels = pictures.clamp(0, 1).mul(255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    return [Image.fromarray(np.ascontiguousarray(each)) for each in pixels]
