"""Attribution Viewer: an attribution as a map in the node, and as a picture; and the choice of the layers to work on."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import folder_paths
from comfy_api.latest import io

from ..cad_engine.attribution import Attribution
from ..cad_engine.layer_choice import choose, parse_patterns
from ..cad_engine.report.interactive import shown_data
from ..cad_engine.selection import RULES, Rule, check_ratio
from .describe import changed_count
from .schema import CadAttribution, advanced, schema

DATA_FOLDER = "cad"
"""In ComfyUI's temp folder, which is emptied at its start."""
_FILES_KEPT = 200
_COMPARE = (
    "An attribution of another concept, made on the same model: the viewer tells how much of it this one's edit would touch. Changes "
    "nothing in the outputs."
)


class AttributionViewer(io.ComfyNode):
    """Its map is drawn by web/attribution_viewer.js; the chosen layers go on to CAD Erase or CAD Amplify."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="CADAttributionViewer",
            display_name="Attribution Viewer",
            description="A map of the UNet to work with: where a concept is drawn and where it is held back, at which timesteps, how many "
            "weights a ratio takes, and what erasing it would touch of other concepts. Limits what follows to the layers that you choose.",
            search_aliases=["plot attribution", "concept map", "layer heatmap", "choose layers", "interpretability"],
            inputs=[
                CadAttribution.Input("attribution", tooltip="From CAD Attribute or a file."),
                io.Float.Input(
                    "ratio",
                    default=0.0,
                    min=0.0,
                    max=1.0,
                    step=0.0001,
                    round=False,
                    tooltip="The part of the weights to look at: what you would give CAD Erase. 0 is all that the rounds found, and "
                    "nothing of an attribution without rounds. It changes the map, the picture and what is compared, not what goes out.",
                ),
                io.Combo.Input(
                    "selection",
                    options=list(RULES),
                    default="global",
                    tooltip="How the ratio is shared out, as in CAD Erase. It changes the map, the picture and what is compared, not "
                    "what goes out.",
                ),
                advanced(
                    io.String.Input(
                        "layers",
                        default="",
                        multiline=True,
                        placeholder="layers to use, one per line; empty: all",
                        tooltip="Layers that CAD Erase or CAD Amplify may touch, one name or pattern per line: 'mid 1*', '*ff out', "
                        "'*output_blocks.3.*'. * stands for anything. Empty takes all. Clicks on the map are written here.",
                    )
                ),
                *(CadAttribution.Input(name, optional=True, tooltip=_COMPARE) for name in ("compare", "compare_2", "compare_3")),
            ],
            outputs=[
                io.Image.Output(display_name="plot", tooltip="The picture, for Save Image."),
                CadAttribution.Output(display_name="attribution", tooltip="The chosen layers alone, for CAD Erase or a file."),
            ],
            is_output_node=True,
        )

    @classmethod
    def execute(
        cls,
        attribution: Attribution,
        ratio: float,
        selection: Rule,
        layers: str,
        compare: Attribution | None = None,
        compare_2: Attribution | None = None,
        compare_3: Attribution | None = None,
    ) -> io.NodeOutput:
        # matplotlib takes a second to load, which starting ComfyUI should not.
        from ..cad_engine.report.pixels import figure_pixels
        from ..cad_engine.report.plot import attribution_figure

        chosen = choose(attribution, parse_patterns(layers))
        marked = _marked(chosen, ratio, selection)
        figure = attribution_figure(attribution, ratio=marked.ratio, rule=marked.rule, chosen=chosen.layers.keys())
        picture = figure_pixels(figure)[None]
        others = tuple(other for other in (compare, compare_2, compare_3) if other is not None)
        data = shown_data(attribution, others, ratio or None, selection, layers, chosen)
        del data["inputs"]  # the node has them
        data["asked"] = {"ratio": ratio, "rule": selection, "layers": layers}
        return io.NodeOutput(picture, chosen, ui={"cad": [{"file": _left_in_temp(data)}]})


def _left_in_temp(data: dict[str, Any]) -> str:
    """The name of a file with `data` in DATA_FOLDER. ComfyUI's history, which is sent around whole, gets the name alone."""
    text = json.dumps(data, allow_nan=False, separators=(",", ":")).encode("utf-8")
    folder = Path(folder_paths.get_temp_directory()) / DATA_FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{hashlib.sha256(text).hexdigest()[:32]}.json"
    if path.exists():
        path.touch()  # so that it counts as new
    else:
        unfinished = path.with_suffix(f".{os.getpid()}")
        unfinished.write_bytes(text)
        unfinished.replace(path)
        for old in sorted(folder.glob("*.json"), key=lambda each: each.stat().st_mtime)[:-_FILES_KEPT]:
            old.unlink(missing_ok=True)
    return path.name


@dataclass(frozen=True)
class _Marked:
    """What the picture marks, as a ratio (None for nothing) and a rule."""

    ratio: float | None
    rule: Rule


def _marked(chosen: Attribution, ratio: float, rule: Rule) -> _Marked:
    if ratio != 0:
        check_ratio(ratio)
        return _Marked(ratio, rule)
    count = changed_count(chosen) if chosen.solved else 0
    return _Marked(count / chosen.weights_total, "global") if count else _Marked(None, rule)
