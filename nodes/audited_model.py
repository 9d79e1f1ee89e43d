"""A MODEL of ComfyUI and an edit, as an audit needs them: pictures by ComfyUI's own sampling, gradients by the engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import comfy.sample
import comfy.utils
import torch
from comfy.model_management import throw_exception_if_processing_interrupted
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ..cad_engine.attribution import Attribution
from ..cad_engine.audit.attack import AttackStates, attack, attack_states
from ..cad_engine.audit.settings import AMPLIFY_RULE, ATTACK_BATCH, ATTACK_SEED, STATE_PICTURES, AuditSettings
from ..cad_engine.components import choose_layers
from ..cad_engine.concept import attribute_concept
from ..cad_engine.edit import Edit
from ..cad_engine.erasure import edit_from_attribution
from ..cad_engine.progress import Progress
from . import denoiser
from .patch import layer_shapes, patched_model

T = TypeVar("T")


class ComfyModel:
    """See cad_engine.audit.model.AuditedModel.

    Args:
        encoded: what CLIP made of every prompt of AuditSettings.encoded, as CLIPTextEncode gives it.
        sampler, scheduler: of ComfyUI's sampling.

    `settings.size` must be set. Raises CadError for an edit of another architecture.
    """

    def __init__(
        self,
        model: ModelPatcher,
        vae: Any,
        edit: Edit,
        settings: AuditSettings,
        encoded: Mapping[str, list[Any]],
        sampler: str,
        scheduler: str,
    ) -> None:
        assert settings.size is not None
        self._model, self._edited, self._vae = model, patched_model(model, edit), vae
        self._settings, self._size, self._encoded = settings, settings.size, encoded
        self._sampler, self._scheduler = sampler, scheduler
        self._states: AttackStates | None = None

    def before(self, prompts: Sequence[str], seeds: Sequence[int], progress: Progress) -> Tensor:
        """See AuditedModel.before."""
        return self._paint(self._model, [self._encoded[prompt] for prompt in prompts], seeds, progress)

    def after(self, prompts: Sequence[str], seeds: Sequence[int], progress: Progress) -> Tensor:
        """See AuditedModel.after."""
        return self._paint(self._edited, [self._encoded[prompt] for prompt in prompts], seeds, progress)

    def remember(self, prompt: str, progress: Progress) -> None:
        """See AuditedModel.remember."""
        given = self._settings

        def work(inside: denoiser.ComfyDenoiser) -> AttackStates:
            seed = given.seed + ATTACK_SEED
            return attack_states(
                inside,
                prompt,
                seed,
                STATE_PICTURES,
                steps=given.steps,
                cfg=given.cfg,
                batch=given.batch,
                size=given.size,
                progress=progress,
            )

        self._states = self._run(self._model, [prompt, ""], work, given.batch, 0)

    def attacked(self, start: str, seeds: Sequence[int], searching: Progress, painting: Progress) -> Tensor:
        """See AuditedModel.attacked."""
        given, states = self._settings, self._states
        if states is None:
            raise ValueError("remember must be called before attacked")

        def work(inside: denoiser.ComfyDenoiser) -> Tensor:
            found = attack(
                inside,
                inside.encode_prompt(start),
                states,
                iterations=given.iterations,
                batch=ATTACK_BATCH,
                seed=given.seed,
                checkpointing=given.checkpointing,
                progress=searching,
            )
            return found.embedding.cpu()

        embedding = self._run(self._edited, [start], work, ATTACK_BATCH, 0)
        ((_, extra),) = self._encoded[start]
        return self._paint(self._edited, [[[embedding, extra]]] * len(seeds), seeds, painting)

    def amplified(self, shown: Tensor, prompts: Sequence[str], seeds: Sequence[int], searching: Progress, painting: Progress) -> Tensor:
        """See AuditedModel.amplified."""
        amplifying = self._settings.amplifying()
        encoded = torch.cat([self._vae.encode(picture.permute(1, 2, 0)[None]) for picture in shown])
        latents = self._model.model.process_latent_in(encoded)
        shapes = layer_shapes(self._edited)
        weights = sum(rows * columns for rows, columns in (shapes[name] for name in choose_layers(shapes, amplifying.components)))

        def work(inside: denoiser.ComfyDenoiser) -> Attribution:
            return attribute_concept(inside, amplifying, latents, searching)

        attribution = self._run(self._edited, amplifying.prompts(), work, amplifying.batch, weights)
        restored = patched_model(self._edited, edit_from_attribution(attribution, self._settings.ratio, AMPLIFY_RULE))
        return self._paint(restored, [self._encoded[prompt] for prompt in prompts], seeds, painting)

    def _run(self, model: ModelPatcher, prompts: Sequence[str], work: Any, batch: int, sums: int) -> Any:
        conditionings = {prompt: self._encoded[prompt] for prompt in prompts}
        return denoiser.run(model, conditionings, work, size=self._size, batch=batch, sums=sums)

    def _paint(self, model: ModelPatcher, conditionings: Sequence[list[Any]], seeds: Sequence[int], progress: Progress) -> Tensor:
        """One picture after the other, so that each is of its seed alone, as a sampler node would paint it."""
        given, pictures = self._settings, []
        latent = comfy.sample.fix_empty_latent_channels(model, torch.zeros(1, 4, *self._size))
        progress("painting", 0, len(seeds))
        for conditioning, seed in zip(conditionings, seeds, strict=True):
            throw_exception_if_processing_interrupted()
            sampled = comfy.sample.sample(
                model,
                comfy.sample.prepare_noise(latent, seed),
                given.steps,
                given.cfg,
                self._sampler,
                self._scheduler,
                conditioning,
                self._encoded[""],
                latent,
                disable_pbar=not comfy.utils.PROGRESS_BAR_ENABLED,
                seed=seed,
            )
            picture = self._vae.decode(sampled)
            pictures.append(picture.reshape(-1, *picture.shape[-3:])[:1, ..., :3].permute(0, 3, 1, 2).float().clamp(0, 1).cpu())
            progress("painting", len(pictures), len(seeds))
        return torch.cat(pictures)
