"""The inputs of CAD Attribute."""

from __future__ import annotations

from typing import get_args

from comfy_api.latest import io

from ..cad_engine.method import AUTOMATIC, METHODS, ROUNDS
from ..cad_engine.schedule import Spacing
from .schema import advanced

COMPONENTS = {
    "cross-attention key + value": ("cross_attention_kv",),
    "ff": ("ff",),
    "ff + attention": ("ff", "attention"),
    "attention": ("attention",),
    "cross-attention": ("cross_attention",),
    "self-attention": ("self_attention",),
    "all linear layers": ("linear",),
}
"""Choices of the node -> groups of the engine (see cad_engine.components.GROUPS)."""


def inputs() -> list[io.Input]:
    """All of them, those that are folded away last."""
    return [*_always_shown(), *map(advanced, _folded_away())]


def _always_shown() -> list[io.Input]:
    return [
        io.Model.Input(
            "model",
            tooltip="The model to look into: Stable Diffusion 1.x, 2.x, XL, inpainting, or the CAD sandbox. LoRAs before this node "
            "count as part of it. It is not changed.",
        ),
        io.Clip.Input("clip", tooltip="The text encoder of the same checkpoint; it encodes the concept and the base prompt."),
        io.String.Input(
            "concept",
            default="",
            placeholder="concept, e.g. a painting in the style of van gogh",
            tooltip="What to find, in words as a prompt would say it. Prompt weights in ( ) work as in CLIP Text Encode.",
        ),
        io.String.Input(
            "base",
            default="",
            placeholder="base prompt, e.g. a painting (empty as in the paper)",
            tooltip="What should be drawn instead: the same words without the concept. Empty is the paper's choice; a matching "
            "base ('a painting' for 'a painting in the style of van gogh') leaves more of the rest alone.",
        ),
        io.String.Input(
            "keep",
            default="",
            multiline=True,
            placeholder="prompts to protect, one per line (empty: ordinary prompts)",
            tooltip="What must stay, one prompt per line: neighbours of the concept first, such as other dogs when one breed goes. Empty "
            "keeps a mix of ordinary prompts. The method paper does not use it.",
        ),
        io.String.Input(
            "contexts",
            default="",
            multiline=True,
            placeholder="sentences with {} in the concept's place, one per line, e.g. a photo of {}",
            tooltip="Sentences around the concept, one per line, with a pair of curly braces in its place, as in the grey example. The "
            "edit is made for each of them and for the concept alone. Name some if longer prompts still draw the concept. For the method "
            "rounds.",
            dynamic_prompts=False,  # the front end would replace the braces
        ),
        io.Combo.Input(
            "objective",
            options=["erase", "amplify"],
            default="erase",
            tooltip="erase: find what draws the concept. amplify: find what holds it back; works best with images of it.",
        ),
        io.Combo.Input(
            "method",
            options=list(METHODS),
            default="rounds",
            tooltip="rounds: find the edit itself, look at what it does, improve it; takes longest and spares the rest best. per harm: "
            "rank weights once, by what they do for the concept per harm to what is kept. paper: rank them by the attribution alone. The "
            "last two need a ratio in CAD Erase. To amplify, rounds means per harm with prompts to keep and paper without.",
        ),
        io.Latent.Input(
            "images",
            optional=True,
            tooltip="For amplify: VAE-encoded pictures of the concept. Without them the model's own pictures are used.",
        ),
        io.Combo.Input(
            "components",
            options=list(COMPONENTS),
            default="cross-attention key + value",
            tooltip="Which layers to score. cross-attention key + value, through which the prompt comes in, suits the method rounds and "
            "takes the least memory. For per harm, ff + attention takes fewer weights than ff; ff (feed-forward) is the paper's choice.",
        ),
        io.Int.Input(
            "trajectories",
            default=20,
            min=1,
            max=1000,
            tooltip="How many pictures are sampled to measure on. More is steadier and takes longer; 5 gives a quick look.",
        ),
        io.Int.Input(
            "steps",
            default=0,
            min=0,
            max=1000,
            tooltip="Sampling steps of each of them (noise levels per image for amplify). 0 is what suits the method: 10, and 4 for paper "
            "to erase. Trajectories are worth more than steps.",
        ),
        io.Float.Input(
            "cfg",
            default=3.0,
            min=1.0,
            max=100.0,
            step=0.1,
            tooltip="Guidance while sampling. 3 is the paper's; raise it if the model hardly draws the concept at 3.",
        ),
        io.Int.Input(
            "seed",
            default=0,
            min=0,
            max=2**63 - 1,
            control_after_generate=False,
            tooltip="Of the sampled noise. The same seed and settings give the same attribution.",
        ),
    ]


def _folded_away() -> list[io.Input]:
    return [
        io.Int.Input(
            "rounds",
            default=ROUNDS,
            min=1,
            max=20,
            tooltip="At most so many, for the method rounds. Each looks at what the edit does so far and improves it; it ends early when "
            "one brings nothing. Raise it when some of the concept is left; 1 is quicker.",
        ),
        io.Int.Input(
            "width",
            default=0,
            min=0,
            max=8192,
            step=8,
            tooltip="Width in pixels to measure at; 0 is what the model was trained on. Smaller is faster and less exact.",
        ),
        io.Int.Input(
            "height",
            default=0,
            min=0,
            max=8192,
            step=8,
            tooltip="Height in pixels to measure at; 0 is what the model was trained on.",
        ),
        io.String.Input(
            "prompt",
            default="",
            placeholder="sampled prompt (empty: the concept)",
            tooltip="What is painted while measuring, if that should be more than the concept: 'a photo of a church' for 'church'.",
        ),
        io.Combo.Input(
            "spacing",
            options=[AUTOMATIC, *get_args(Spacing)],
            default=AUTOMATIC,
            tooltip="Timesteps of the sampling. auto is centred for paper to erase, which measures best with few steps, and trailing, "
            "which paints best, for everything else; leading is the paper's.",
        ),
        io.Int.Input(
            "batch",
            default=4,
            min=1,
            max=64,
            tooltip="Samples computed together, or fewer where memory is short; the scores stay the same.",
        ),
        io.Boolean.Input(
            "checkpointing",
            default=False,
            tooltip="Always compute activations twice instead of keeping them: about a third slower, much less memory. Off, it is done "
            "only where memory is short.",
        ),
        io.Float.Input(
            "largest_ratio",
            default=0.0,
            min=0.0,
            max=1.0,
            step=0.001,
            round=False,
            tooltip="The largest ratio that the result can be used with later. 0 keeps all scores of a small model and 1 % of a "
            "large one, which keeps files small. The method rounds always keeps all that it changes.",
        ),
        io.Boolean.Input(
            "cache",
            default=True,
            tooltip="Keep the result on disk and use it again when model, prompts and settings are the same, also after a restart.",
        ),
        io.Boolean.Input(
            "vary",
            default=True,
            optional=True,  # as `unit` of CAD Erase: graphs saved before there was a choice are still valid
            tooltip="For the method rounds: look also at sentences with invented words, and keep the words nearest to the concept; the "
            "node names them. Turn it off when one of them says the same as the concept.",
        ),
    ]
