"""Save CAD Attribution: an attribution as a file, to use it later or elsewhere without computing it again."""

from __future__ import annotations

from comfy_api.latest import io

from ..cad_engine.attribution import Attribution
from ..cad_engine.attribution_file import save_attribution
from .folders import ATTRIBUTIONS
from .saving import inputs, name_refusal, saved
from .schema import CadAttribution, schema


class SaveAttribution(io.ComfyNode):
    """Writes to models/cad_attributions."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="CADSaveAttribution",
            display_name="Save CAD Attribution",
            description="Saves an attribution to models/cad_attributions, where Load CAD Attribution finds it. Tens of megabytes for "
            "Stable Diffusion 1.5, up to 200 for SDXL.",
            search_aliases=["export attribution", "store attribution", "concept weights file"],
            inputs=[CadAttribution.Input("attribution", tooltip="What to save: from CAD Attribute or the viewer."), *inputs("attribution")],
            outputs=[CadAttribution.Output(display_name="attribution", tooltip="What came in, unchanged.")],
            hidden=[io.Hidden.unique_id],
            is_output_node=True,
        )

    @classmethod
    def validate_inputs(cls, name: str | None = None) -> bool | str:
        return name_refusal(name)

    @classmethod
    def execute(cls, attribution: Attribution, name: str, overwrite: bool) -> io.NodeOutput:
        ui = saved(cls, ATTRIBUTIONS, name, overwrite, lambda path: save_attribution(path, attribution))
        return io.NodeOutput(attribution, ui=ui)
