"""Load CAD Attribution: a saved attribution, in place of computing one."""

from __future__ import annotations

from comfy_api.latest import io

from ..cad_engine.attribution_file import load_attribution
from .describe import attribution_line
from .folders import ATTRIBUTIONS, existing, options, refusal, state
from .schema import CadAttribution, schema
from .status import show


class LoadAttribution(io.ComfyNode):
    """Reads a file of models/cad_attributions, and checks it."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="CADLoadAttribution",
            display_name="Load CAD Attribution",
            description="Loads an attribution from models/cad_attributions. It takes the place of CAD Attribute, so that "
            "nothing is computed again.",
            search_aliases=["import attribution", "concept weights file"],
            inputs=[
                io.Combo.Input(
                    "name",
                    options=options(ATTRIBUTIONS),
                    tooltip="A file of models/cad_attributions. Save CAD Attribution writes there; refresh (R) after putting files there.",
                )
            ],
            outputs=[CadAttribution.Output(display_name="attribution", tooltip="The scores, for CAD Erase, CAD Amplify or the viewer.")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def validate_inputs(cls, name: str | None = None) -> bool | str:
        return refusal(ATTRIBUTIONS, name) or True

    @classmethod
    def fingerprint_inputs(cls, name: str | None = None) -> str:
        return state(ATTRIBUTIONS, name)

    @classmethod
    def execute(cls, name: str) -> io.NodeOutput:
        attribution = load_attribution(existing(ATTRIBUTIONS, name))
        show(cls, attribution_line(attribution))
        return io.NodeOutput(attribution)
