"""Attribution Viewer: an attribution as a picture and as data for the front end; and the choice of the layers to work on."""

from __future__ import annotations

from dataclasses import dataclass

from comfy_api.latest import io, ui

from ..cad_engine.attribution import Attribution
from ..cad_engine.layer_choice import choose, parse_patterns
from ..cad_engine.report.counts import taken_counts
from ..cad_engine.report.viewer_data import viewer_data
from ..cad_engine.selection import RULES, Rule, check_ratio
from .describe import changed_count
from .schema import CadAttribution, advanced, schema
from .status import show


class AttributionViewer(io.ComfyNode):
    """Draws what cad_engine.report draws; the chosen layers go on to CAD Erase or CAD Amplify."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="CADAttributionViewer",
            display_name="Attribution Viewer",
            description="Shows where in the UNet a concept is drawn, at which timesteps, how strongly, and how many weights a ratio takes. "
            "Limits what follows to the layers that you choose.",
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
                    tooltip="The part of the weights whose place the picture marks: what you would give CAD Erase. 0 marks all that the "
                    "rounds found, and nothing of an attribution without rounds. It changes the picture alone.",
                ),
                io.Combo.Input(
                    "selection",
                    options=list(RULES),
                    default="global",
                    tooltip="The selection whose weights the picture marks, as in CAD Erase. It changes the picture alone.",
                ),
                advanced(
                    io.String.Input(
                        "layers",
                        default="",
                        multiline=True,
                        placeholder="layers to use, one per line; empty: all",
                        tooltip="Layers that CAD Erase or CAD Amplify may touch, one name or pattern per line: 'mid 1*', '*ff out', "
                        "'*output_blocks.3.*'. * stands for anything. Empty takes all. Change it to spare a part of the UNet.",
                    )
                ),
            ],
            outputs=[
                io.Image.Output(display_name="plot", tooltip="The picture, for Save Image."),
                CadAttribution.Output(display_name="attribution", tooltip="The chosen layers alone, for CAD Erase or a file."),
            ],
            hidden=[io.Hidden.unique_id],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, attribution: Attribution, ratio: float, selection: Rule, layers: str) -> io.NodeOutput:
        # matplotlib takes a second to load, which starting ComfyUI should not.
        from ..cad_engine.report.pixels import figure_pixels
        from ..cad_engine.report.plot import attribution_figure

        chosen = choose(attribution, parse_patterns(layers))
        marked = _marked(chosen, ratio, selection)
        figure = attribution_figure(attribution, ratio=marked.ratio, rule=marked.rule, chosen=chosen.layers.keys())
        picture = figure_pixels(figure)[None]
        show(cls, f"{marked.text}, {len(chosen.layers)} of {len(attribution.layers)} layers")
        data = viewer_data(attribution, chosen.layers.keys())
        return io.NodeOutput(picture, chosen, ui={"cad": [data], **ui.PreviewImage(picture, cls=cls).as_dict()})


@dataclass(frozen=True)
class _Marked:
    """What the picture marks, as a ratio (None for nothing) and a rule, and in words."""

    ratio: float | None
    rule: Rule
    text: str


def _marked(chosen: Attribution, ratio: float, rule: Rule) -> _Marked:
    if ratio != 0:
        check_ratio(ratio)
        return _Marked(ratio, rule, f"{taken_counts(chosen, rule, [ratio])[0]:,} weights at {ratio:g} by {rule}")
    count = changed_count(chosen) if chosen.solved else 0
    if count:
        return _Marked(count / chosen.weights_total, "global", f"{count:,} weights changed in rounds")
    return _Marked(None, rule, "0 weights changed in rounds" if chosen.solved else "no weights marked without a ratio")
