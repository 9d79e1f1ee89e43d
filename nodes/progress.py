"""The engine's progress as ComfyUI shows it: a bar with a preview picture; and where an interruption takes hold."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import comfy.utils
import latent_preview
from comfy.model_management import throw_exception_if_processing_interrupted
from comfy.model_patcher import ModelPatcher
from torch import Tensor


class NodeProgress:
    """A Progress (see cad_engine.progress) on the bar of the node that is being executed.

    Args:
        model: whose latents the preview shows.
        costs: stage -> its work, in UNet evaluations; stages that are not in it show nothing. They may take turns, end early or be
            left out, but for the last one, with which all others are over.
        denoised: gives the last predicted x_0 [B, C, H, W], or None.
    """

    def __init__(self, model: ModelPatcher, costs: Mapping[str, int], denoised: Callable[[], Tensor | None]) -> None:
        self._costs = dict(costs)
        self._last = list(costs)[-1]
        self._total = sum(costs.values())
        self._bar = comfy.utils.ProgressBar(self._total)
        self._previewer = latent_preview.get_previewer(model.load_device, model.model.latent_format)
        self._denoised = denoised
        self._done = dict.fromkeys(costs, 0.0)

    def __call__(self, stage: str, done: int, total: int) -> None:
        throw_exception_if_processing_interrupted()
        if stage not in self._costs:
            return
        if stage == self._last:
            self._done |= {name: cost for name, cost in self._costs.items() if name != stage}
        self._done[stage] = max(self._done[stage], self._costs[stage] * min(1.0, done / max(1, total)))
        preview, x_0 = None, self._denoised()
        if self._previewer is not None and x_0 is not None:
            preview = self._previewer.decode_latent_to_preview_image("JPEG", x_0)
        self._bar.update_absolute(round(sum(self._done.values())), self._total, preview)
