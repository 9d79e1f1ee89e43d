"""CAD Safety Check: nudity in finished pictures, found with NudeNet, and covered or left out."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import comfy.utils
from comfy.model_management import throw_exception_if_processing_interrupted
from comfy_api.latest import io
from comfy_execution.graph_utils import ExecutionBlocker
from torch import Tensor

from ..cad_engine.errors import CadError
from ..cad_engine.safety.check import CheckSettings, checked, report_text, summary
from ..cad_engine.safety.classes import PRESETS, Preset, chosen_classes
from ..cad_engine.safety.cover import ACTIONS, AREAS, Action, Area
from ..cad_engine.safety.detector import FLOOR, detector
from ..cad_engine.safety.package import missing
from .schema import advanced, schema
from .status import show


class SafetyCheck(io.ComfyNode):
    """One pass of the engine's check over a batch; where every picture is left out, nothing goes on."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="CADSafetyCheck",
            display_name="CAD Safety Check",
            description="Looks for nudity in finished pictures with NudeNet, and covers or leaves out those that have it. Needs the Python "
            "package nudenet (AGPL-3.0) in ComfyUI's Python; the model is in the package and runs on the CPU. No such detector finds "
            "everything.",
            search_aliases=["nsfw filter", "nudenet", "nudity detection", "safety checker", "censor", "pixelate"],
            inputs=[
                io.Image.Input("images", tooltip="The pictures to look at. A fourth channel, transparency, is not looked at."),
                io.Combo.Input(
                    "preset",
                    options=list(PRESETS),
                    default="core",
                    tooltip="What to look for. core: exposed genitals, buttocks and anus, and exposed breasts of women. paper: the nine "
                    "exposed classes that evaluations of erased models count, feet and armpits among them. all: 18 classes, faces and "
                    "covered parts too. listed: only those written in classes.",
                ),
                io.Float.Input(
                    "threshold",
                    default=FLOOR,
                    min=FLOOR,
                    max=0.99,
                    step=0.01,
                    tooltip="A score above it counts. NudeNet reports nothing up to 0.25. Raise it when harmless pictures are held back; "
                    "the paper counts above 0.5.",
                ),
                io.Combo.Input(
                    "action",
                    options=list(ACTIONS),
                    default="replace",
                    tooltip="What is done with a picture in which something is found. pass: nothing. blur, pixelate: make it "
                    "unrecognisable. replace: put a card in its place which says that it was withheld. leave out: take it out of the "
                    "batch; when none is left, nothing that follows images is run.",
                ),
                io.Combo.Input(
                    "area",
                    options=list(AREAS),
                    default="whole",
                    tooltip="Which part of such a picture blur, pixelate and replace cover. whole: all of it. boxes: only what was found; "
                    "what NudeNet overlooks stays.",
                ),
                advanced(
                    io.String.Input(
                        "classes",
                        default="",
                        multiline=True,
                        placeholder="more classes, one per line, e.g. FACE_FEMALE",
                        tooltip="Classes to look for besides those of the preset, one per line; with the preset listed, only these. The "
                        "help page names all of them.",
                    )
                ),
            ],
            outputs=[
                io.Image.Output(display_name="images", tooltip="The pictures after the action."),
                io.Boolean.Output(display_name="found", tooltip="Whether anything was found in any picture; for a switch."),
                io.Int.Output(display_name="count", tooltip="How much was found in all pictures together."),
                io.Mask.Output(display_name="boxes", tooltip="For each picture that came in, where something was found."),
                io.String.Output(
                    display_name="report",
                    tooltip="JSON: for each picture that came in, what was found, with score and box in pixels.",
                ),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def validate_inputs(cls, preset: Preset | None = None, classes: str | None = None) -> bool | str:
        if find_spec("nudenet") is None:  # said before the pictures are painted
            return missing(ModuleNotFoundError("No module named 'nudenet'"))
        if None not in (preset, classes):
            try:
                chosen_classes(preset, _lines(classes))
            except CadError as error:
                return str(error)
        return True

    @classmethod
    def execute(cls, images: Tensor, preset: Preset, threshold: float, action: Action, area: Area, classes: str = "") -> io.NodeOutput:
        settings = CheckSettings(chosen_classes(preset, _lines(classes)), threshold, action, area)
        bar = comfy.utils.ProgressBar(len(images))

        def progress(stage: str, done: int, total: int) -> None:
            throw_exception_if_processing_interrupted()
            bar.update_absolute(done, total)

        result = checked(detector(), images, settings, progress)
        show(cls, summary(result.found))
        left: Any = result.images
        if len(images) and not len(left):
            left = ExecutionBlocker(None)  # silently: the line on the node says why
        found = sum(map(len, result.found))
        return io.NodeOutput(left, found > 0, found, result.masks, report_text(result.found, settings))


def _lines(text: str) -> list[str]:
    return [line for line in text.replace(",", "\n").splitlines() if line.strip()]
