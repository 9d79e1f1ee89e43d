"""From an edit to a patched MODEL: a sparse weight adapter that goes through ComfyUI's own patch mechanism, as a LoRA does."""

from __future__ import annotations

from typing import Any

import torch
from comfy.model_patcher import ModelPatcher
from comfy.weight_adapter import WeightAdapterBase
from torch import Tensor

from ..cad_engine.edit import Edit, check_fits


class SparseScale(WeightAdapterBase):
    """Multiplies some weights of a matrix by a factor each, and leaves every other bit alone.

    Attributes:
        weights: (index int32 [k], factor float32 [k] or [1]): flattened positions, and what they are multiplied by at strength 1.
            ComfyUI rebuilds adapters from these two arguments alone when it moves them to another device.
    """

    name = "cad"

    def __init__(self, loaded_keys: set[str], weights: tuple[Tensor, Tensor]) -> None:
        self.loaded_keys = loaded_keys
        self.weights = weights

    def calculate_weight(
        self,
        weight: Tensor,
        key: str,
        strength: float,
        strength_model: float,
        offset: Any,
        function: Any,
        intermediate_dtype: torch.dtype = torch.float32,
        original_weight: Any = None,
    ) -> Tensor:
        """`weight` [out, in], changed in place: ComfyUI hands a copy, to which earlier patches are applied already."""
        index, factor = (part.to(weight.device) for part in self.weights)
        index = index.long()
        place = (index // weight.shape[1], index % weight.shape[1])  # a view of `weight` need not be contiguous
        before = weight[place].to(torch.promote_types(weight.dtype, torch.float32))
        weight[place] = (before * (1 + strength * (factor - 1))).to(weight.dtype)
        return weight


def layer_shapes(model: ModelPatcher) -> dict[str, tuple[int, ...]]:
    """Shape of every weight matrix of `model`'s UNet by its name in a checkpoint, see Denoiser.layers."""
    unet = model.model.diffusion_model
    modules = (
        (name, module) for name, module in unet.named_modules() if hasattr(module, "in_features") and hasattr(module, "out_features")
    )
    return {f"diffusion_model.{name}.weight": (module.out_features, module.in_features) for name, module in modules}


def patched_model(model: ModelPatcher, edit: Edit, strength: float = 1.0) -> ModelPatcher:
    """A clone of `model` that runs with `edit` applied at `strength`; `model` itself, and all other clones, stay as they are.

    Raises CadError when the edit is for another architecture.
    """
    check_fits(edit, layer_shapes(model))
    patches = {}
    for name, layer in edit.layers.items():
        factor = torch.zeros(1) if layer.factor is None else layer.factor
        patches[name] = SparseScale({name}, (layer.index.to(torch.int32), factor))
    clone = model.clone()
    taken = clone.add_patches(patches, strength)
    if len(taken) != len(patches):  # add_patches says nothing when it does not know a name
        raise RuntimeError(f"ComfyUI took {len(taken)} of {len(patches)} layers; missing: {sorted(set(patches) - set(taken))[:3]}")
    return clone
