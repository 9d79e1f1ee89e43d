"""Load CAD Edit: a saved edit, to look at or to pass on; Apply CAD Edit loads and applies in one."""

from __future__ import annotations

from comfy_api.latest import io

from ..cad_engine.edit_file import load_edit
from .describe import edit_line
from .folders import EDITS, existing, options, refusal, state
from .schema import CadEdit, schema
from .status import show

EDIT_TOOLTIP = "A file of models/cad_edits. Save CAD Edit writes there; refresh (R) after putting files there."


class LoadEdit(io.ComfyNode):
    """Reads a file of models/cad_edits, and checks it."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="CADLoadEdit",
            display_name="Load CAD Edit",
            description="Loads an edit from models/cad_edits and shows what it is for. To use it on a model, take Apply CAD Edit.",
            search_aliases=["import edit", "inspect edit"],
            inputs=[io.Combo.Input("name", options=options(EDITS), tooltip=EDIT_TOOLTIP)],
            outputs=[CadEdit.Output(display_name="edit", tooltip="The edit as it was saved.")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def validate_inputs(cls, name: str | None = None) -> bool | str:
        return refusal(EDITS, name) or True

    @classmethod
    def fingerprint_inputs(cls, name: str | None = None) -> str:
        return state(EDITS, name)

    @classmethod
    def execute(cls, name: str) -> io.NodeOutput:
        edit = load_edit(existing(EDITS, name))
        show(cls, edit_line(edit))
        return io.NodeOutput(edit)
