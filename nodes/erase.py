"""CAD Erase: a model in which a concept is suppressed."""

from __future__ import annotations

from comfy.model_patcher import ModelPatcher
from comfy_api.latest import io

from ..cad_engine.attribution import Attribution
from ..cad_engine.selection import Rule
from ..cad_engine.units import Unit
from .attribution_to_model import edited_model, inputs, outputs
from .schema import schema


class Erase(io.ComfyNode):
    """Ablates the weights with the highest positive attribution (CAD-Erase of the paper), or changes those that rounds found."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="CADErase",
            display_name="CAD Erase",
            description="Suppresses a concept in a model by changing the few weights that draw it. Chains with LoRAs.",
            search_aliases=["concept erasure", "remove concept", "unlearn", "remove style", "ablate weights"],
            inputs=inputs("erase"),
            outputs=outputs(),
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls, model: ModelPatcher, attribution: Attribution, ratio: float, selection: Rule, strength: float, unit: Unit = "weight"
    ) -> io.NodeOutput:
        return edited_model(cls, "erase", model, attribution, ratio, selection, strength, unit)
