"""Apply CAD Edit: a shared edit on a model, as a LoRA loader does it."""

from __future__ import annotations

from typing import Any

from comfy.model_patcher import ModelPatcher
from comfy_api.latest import io

from ..cad_engine.edit import with_strength
from ..cad_engine.edit_file import load_edit
from .describe import edit_line
from .folders import EDITS, existing, options, refusal, state
from .load_edit import EDIT_TOOLTIP
from .model_fingerprint import weights_warning
from .patch import patched_model
from .schema import CadEdit, schema
from .status import show


class ApplyEdit(io.ComfyNode):
    """Reads a file of models/cad_edits and patches a clone of the model with it."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="CADApplyEdit",
            display_name="Apply CAD Edit",
            description="Applies a saved edit to a model: suppresses or strengthens the concept that it was made for. Needs neither the "
            "attribution nor the text encoder. Chains with LoRAs and other edits.",
            search_aliases=["load edit", "concept erasure", "remove concept", "remove style", "apply erasure"],
            inputs=[
                io.Model.Input("model", tooltip="The model to change; it goes out as a patched copy, as after a LoRA loader."),
                io.Combo.Input("edit_name", options=options(EDITS), tooltip=EDIT_TOOLTIP),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=-10.0,
                    max=10.0,
                    step=0.01,
                    tooltip="How much of the edit: 0 changes nothing, 1 is the edit as it was saved; lower it when other things suffer, "
                    "raise it when the concept stays. Below 0 it does the opposite.",
                ),
            ],
            outputs=[
                io.Model.Output(display_name="model", tooltip="The patched model, for a sampler or further patches."),
                CadEdit.Output(display_name="edit", tooltip="What was applied, strength included."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def validate_inputs(cls, edit_name: str | None = None) -> bool | str:
        return refusal(EDITS, edit_name) or True

    @classmethod
    def fingerprint_inputs(cls, edit_name: str | None = None, **others: Any) -> str:
        return state(EDITS, edit_name)

    @classmethod
    def execute(cls, model: ModelPatcher, edit_name: str, strength: float) -> io.NodeOutput:
        edit = load_edit(existing(EDITS, edit_name))
        scaled = with_strength(edit, strength)
        patched = patched_model(model, edit, strength)
        warning = weights_warning(model, edit.info)
        show(cls, edit_line(edit) if warning is None else f"{edit_line(edit)}\n{warning}")
        return io.NodeOutput(patched, scaled)
