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


class ClipScore:
    """100 x the cosine of picture and text embedding, at least 0.

    Args:
        folder: a CLIP model as transformers saves it, with its processor, such as a copy of openai/clip-vit-large-patch14.
        text: what each picture is compared with; None for its own prompt.

    Raises CadError when the folder is none.
    """

    counts = False

    def __init__(self, folder: Path, text: str | None = None, device: str = "cpu") -> None:
        from transformers import CLIPModel, CLIPProcessor

        if not Path(folder).is_dir():
            raise CadError(f"there is no folder {folder}; give one with a CLIP model as transformers saves it")
        try:
            self._model = CLIPModel.from_pretrained(folder, local_files_only=True, use_safetensors=True).eval().to(device)
            self._processor = CLIPProcessor.from_pretrained(folder, local_files_only=True)
        except (OSError, ValueError, KeyError) as error:
            raise CadError(f"{folder} cannot be read as a CLIP model with its processor ({first_line(error)})") from error
        self._text = text
        self.name = "CLIP score with the prompt" if text is None else f"CLIP score with “{text}”"

    @torch.no_grad()
    def values(self, pictures: Tensor, prompts: Sequence[str]) -> Tensor:
        """See Measure.values; texts longer than the model takes are cut."""
        scores = []
        for start in range(0, len(pictures), BATCH):
            part = slice(start, start + BATCH)
            texts = list(prompts[part]) if self._text is None else [self._text] * len(pictures[part])
            given = self._processor(text=texts, images=as_images(pictures[part]), return_tensors="pt", padding=True, truncation=True)
            found = self._model(**given.to(self._model.device))
            scores.append(torch.nn.functional.cosine_similarity(found.image_embeds, found.text_embeds).clamp(min=0).mul(100).float().cpu())
        return torch.cat(scores) if scores else torch.zeros(0)


def as_images(pictures: Tensor) -> list[Image.Image]:
    """Pictures [B, 3, H, W] in [0, 1] as what processors of transformers take."""
    pixels = pictures.clamp(0, 1).mul(255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    return [Image.fromarray(np.ascontiguousarray(each)) for each in pixels]
