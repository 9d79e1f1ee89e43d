"""CAD Amplify: a model in which a concept is strengthened."""

from __future__ import annotations

from comfy.model_patcher import ModelPatcher
from comfy_api.latest import io

from ..cad_engine.attribution import Attribution
from ..cad_engine.selection import Rule
from ..cad_engine.units import Unit
from .attribution_to_model import edited_model, inputs, outputs
from .schema import schema


class Amplify(io.ComfyNode):
    """Ablates the weights with the most negative attribution (CAD-Amplify of the paper)."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="CADAmplify",
            display_name="CAD Amplify",
            description="Strengthens a concept in a model by setting the weights that hold it back to zero. Chains with LoRAs.",
            search_aliases=["concept amplification", "strengthen concept", "boost concept", "enhance style"],
            inputs=inputs("amplify"),
            outputs=outputs(),
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls, model: ModelPatcher, attribution: Attribution, ratio: float, selection: Rule, strength: float, unit: Unit = "weight"
    ) -> io.NodeOutput:
        return edited_model(cls, "amplify", model, attribution, ratio, selection, strength, unit)
