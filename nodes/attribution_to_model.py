"""What CAD Erase and CAD Amplify share: an attribution and a ratio become an edit and a patched MODEL."""

from __future__ import annotations

from comfy.model_patcher import ModelPatcher
from comfy_api.latest import io

from ..cad_engine.attribution import Attribution
from ..cad_engine.edit import Edit, with_strength
from ..cad_engine.erasure import edit_from_attribution
from ..cad_engine.errors import CadError, shown
from ..cad_engine.objective import Kind
from ..cad_engine.selection import RULES, Rule
from ..cad_engine.units import UNITS, Unit
from .describe import edit_line
from .model_fingerprint import weights_warning
from .patch import patched_model
from .schema import CadAttribution, CadEdit, advanced
from .status import show

_RATIO = (
    "Part of the weights to take. 0.001 (the paper's) is a start; raise it to strengthen the concept more, lower it when other things "
    "suffer. Changing it takes no new attribution. The node shows how many weights are taken."
)
_RATIO_OR_AUTOMATIC = (
    "0 is automatic: all that the rounds of CAD Attribute found. Above 0, the part of the weights to take, strongest first; attributions "
    "made without rounds need it. 0.001 (the paper's) is a start; raise it to suppress the concept more, lower it when other things "
    "suffer. Changing it takes no new attribution. The node shows how many weights are taken."
)
_SELECTION = (
    "How a ratio is shared out. global: the strongest of all, for attributions made in rounds or with prompts to keep; row: in each row of "
    "each matrix, rounded down (the paper's; none of short rows); row_min1: at least one a row; layer: the strongest of each layer."
)


_UNIT = (
    "What the ratio counts and what is taken out: single weights, or whole neurons (of ff), heads (of attention) or layers, ranked by the "
    "sums of their weights' scores. Units need an attribution with the method paper and the selection global or layer, and a larger ratio."
)


def inputs(objective: Kind) -> list[io.Input]:
    """The inputs of the node for `objective`."""
    erasing = objective == "erase"
    node = "CAD Attribute" if erasing else "CAD Attribute with the objective amplify"
    full = "1 changes them in full (to zero, or as the rounds found)" if erasing else "1 sets them to zero"
    return [
        io.Model.Input("model", tooltip="The model to change; it goes out as a patched copy, as after a LoRA loader."),
        CadAttribution.Input("attribution", tooltip=f"From {node}, a file, or the viewer; layers left out in the viewer are not touched."),
        io.Float.Input(
            "ratio",
            default=0.0 if erasing else 0.001,
            min=0.0,
            max=1.0,
            step=0.0001,
            round=False,
            tooltip=_RATIO_OR_AUTOMATIC if erasing else _RATIO,
        ),
        io.Combo.Input("selection", options=list(RULES), default="global" if erasing else "row", tooltip=_SELECTION),
        io.Float.Input(
            "strength",
            default=1.0,
            min=-10.0,
            max=10.0,
            step=0.05,
            tooltip=f"How far the taken weights are changed: 0 changes nothing, {full}, beyond 1 goes further, below 0 does the opposite.",
        ),
        # Optional, so that graphs saved before there was a choice are still valid.
        advanced(io.Combo.Input("unit", options=list(UNITS), default="weight", optional=True, tooltip=_UNIT)),
    ]


def outputs() -> list[io.Output]:
    return [
        io.Model.Output(display_name="model", tooltip="The patched model, for a sampler or further patches."),
        CadEdit.Output(display_name="edit", tooltip="What was changed, strength included, for Save CAD Edit."),
    ]


def edited_model(
    node: type[io.ComfyNode],
    objective: Kind,
    model: ModelPatcher,
    attribution: Attribution,
    ratio: float,
    selection: Rule,
    strength: float,
    unit: Unit,
) -> io.NodeOutput:
    """The outputs of `node`; it shows how many weights or units were taken. Ratio 0 erases all that was found in rounds.

    Raises CadError when no weight is taken, or the attribution does not fit.
    """
    if attribution.objective != objective:
        other = "CAD Amplify" if objective == "erase" else "CAD Erase"
        raise CadError(
            f"this attribution of {shown(attribution.info.get('concept', '?'), 60)!r} was made to {attribution.objective}; "
            f"connect it to {other}, or set the objective of CAD Attribute to {objective}"
        )
    taken = None if objective == "erase" and ratio == 0 else ratio
    edit = with_strength(edit_from_attribution(attribution, taken, selection, unit=unit), strength)
    patched = patched_model(model, edit)
    show(node, _summary(edit, attribution, weights_warning(model, attribution.info)))
    return io.NodeOutput(patched, edit)


def _summary(edit: Edit, attribution: Attribution, warning: str | None) -> str:
    text = f"{edit_line(edit)} ({len(edit) / attribution.weights_total:.2%} of those scored)"
    if "unit" in edit.info:
        text += f"\n{edit.info['units']:,} of {edit.info['units_total']:,} {edit.info['unit']}s taken out"
    return text if warning is None else f"{text}\n{warning}"
