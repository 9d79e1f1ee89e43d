"""Pictures for an audit, painted with ComfyUI's own sampling: of a MODEL without and with an edit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import comfy.sample
import torch
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ..cad_engine.audit.attack import AttackStates
from ..cad_engine.audit.settings import ATTACK_BATCH, AuditSettings
from ..cad_engine.audit.studio import search, states_to_find
from ..cad_engine.components import choose_layers
from ..cad_engine.concept import attribute_concept
from ..cad_engine.edit import Edit
from ..cad_engine.erasure import edit_from_attribution
from ..cad_engine.progress import Progress
from . import denoiser
from .patch import layer_shapes, patched_model
from .supported_model import noise_sigmas


class ComfyStudio:
    """See cad_engine.audit.studio.Studio; one picture at a time, each as a KSampler of its seed paints it from an empty latent.

    Args:
        size: (height, width) of the latents.
        sampler, scheduler: as KSampler has them.

    Raises CadError for a model that CAD cannot work on, and for an edit of another architecture.
    """

    def __init__(
        self,
        model: ModelPatcher,
        clip: Any,
        vae: Any,
        edit: Edit,
        settings: AuditSettings,
        size: tuple[int, int],
        sampler: str,
        scheduler: str,
    ) -> None:
        noise_sigmas(model)
        self._plain, self._edited = model, patched_model(model, edit)
        self._vae, self._settings, self._size = vae, settings, size
        self._sampling = {"sampler_name": sampler, "scheduler": scheduler}
        # Encoded first: loading the text encoder may push the UNet out of memory.
        self._conds: dict[str, Any] = {text: clip.encode_from_tokens_scheduled(clip.tokenize(text)) for text in settings.texts()}
        self._states: AttackStates | None = None

    def paint(self, prompts: Sequence[str], seeds: Sequence[int], progress: Progress, *, edited: bool) -> Tensor:
        """See Studio."""
        return self._paint(self._edited if edited else self._plain, [self._conds[text] for text in prompts], seeds, progress)

    def find(self, start: str, states: Progress, searching: Progress) -> Any:
        """See Studio; what is found is conditioning as CLIPTextEncode gives it."""
        if self._states is None:
            self._states = self._run(self._plain, lambda inside: states_to_find(inside, self._settings, states), self._settings.batch)
        known = self._states

        def work(inside: denoiser.ComfyDenoiser) -> Tensor:
            return inside.embedding(search(inside, start, known, self._settings, searching))

        embedding = self._run(self._edited, work, ATTACK_BATCH)
        return [[embedding.cpu(), self._conds[start][0][1]]]

    def paint_found(self, found: Any, seeds: Sequence[int], progress: Progress) -> Tensor:
        """See Studio."""
        return self._paint(self._edited, [found] * len(seeds), seeds, progress)

    def amplify(self, pictures: Tensor, attributing: Progress, prompts: Sequence[str], seeds: Sequence[int], progress: Progress) -> Tensor:
        """See Studio."""
        encoded = torch.cat([self._vae.encode(picture[None].movedim(1, -1)) for picture in pictures])
        latents = self._plain.model.process_latent_in(encoded.clone()).cpu()
        settings = self._settings.amplifying()
        shapes = layer_shapes(self._edited)
        sums = sum(rows * columns for rows, columns in (shapes[name] for name in choose_layers(shapes, settings.components)))
        attribution = self._run(
            self._edited, lambda inside: attribute_concept(inside, settings, latents, attributing), settings.batch, sums=sums
        )
        amplified = patched_model(self._edited, edit_from_attribution(attribution, self._settings.ratio, "row_min1"))
        return self._paint(amplified, [self._conds[text] for text in prompts], seeds, progress)

    def _run(self, model: ModelPatcher, work: Any, batch: int, sums: int = 0) -> Any:
        return denoiser.run(model, self._conds, work, size=self._size, batch=batch, sums=sums)

    def _paint(self, model: ModelPatcher, conditionings: Sequence[Any], seeds: Sequence[int], progress: Progress) -> Tensor:
        steps, painted = self._settings.steps, []
        progress("painting", 0, len(seeds) * steps)
        for number, (conditioning, seed) in enumerate(zip(conditionings, seeds, strict=True)):

            def step(done: int, x_0: Tensor, x: Tensor, total: int, before: int = number * steps) -> None:
                progress("painting", before + min(done + 1, steps), len(seeds) * steps)

            latent = torch.zeros(1, model.model.latent_format.latent_channels, *self._size)
            samples = comfy.sample.sample(
                model,
                comfy.sample.prepare_noise(latent, seed),
                steps,
                self._settings.cfg,
                positive=conditioning,
                negative=self._conds[""],
                latent_image=latent,
                callback=step,
                disable_pbar=True,
                seed=seed,
                **self._sampling,
            )
            painted.append(self._vae.decode(samples).movedim(-1, 1).float().cpu()[:, :3])
        progress("painting", len(seeds) * steps, len(seeds) * steps)
        return torch.cat(painted)
