"""Save CAD Edit: an edit as a small file that others with the same checkpoint can apply."""

from __future__ import annotations

from comfy_api.latest import io

from ..cad_engine.edit import Edit
from ..cad_engine.edit_file import save_edit
from .folders import EDITS
from .saving import inputs, name_refusal, saved
from .schema import CadEdit, schema


class SaveEdit(io.ComfyNode):
    """Writes to models/cad_edits."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="CADSaveEdit",
            display_name="Save CAD Edit",
            description="Saves an edit to models/cad_edits, where Apply CAD Edit finds it. Small enough to share; it holds positions, no "
            "weights.",
            search_aliases=["export edit", "share edit", "store concept erasure"],
            inputs=[CadEdit.Input("edit", tooltip="What to save: from CAD Erase or CAD Amplify, with their strength."), *inputs("edit")],
            outputs=[CadEdit.Output(display_name="edit", tooltip="What came in, unchanged.")],
            hidden=[io.Hidden.unique_id],
            is_output_node=True,
        )

    @classmethod
    def validate_inputs(cls, name: str | None = None) -> bool | str:
        return name_refusal(name)

    @classmethod
    def execute(cls, edit: Edit, name: str, overwrite: bool) -> io.NodeOutput:
        return io.NodeOutput(edit, ui=saved(cls, EDITS, name, overwrite, lambda path: save_edit(path, edit)))
