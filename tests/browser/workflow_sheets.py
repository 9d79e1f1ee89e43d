"""The shipped workflows: their nodes, settings and notes. tests.browser.make_workflows draws them in the real front end.

Whoever opens one should see what it does, press Run, and know which knob to turn next. Those on the sandbox run anywhere as they
are; the others need the checkpoint that is named in them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cad_engine.concept_settings import ConceptSettings
from cad_engine.cost import evaluations
from cad_engine.variations import varied
from tests.nodes.graph import Link, Node

from .sheet import Compared, Group, Look, Sheet, group

SD15 = {
    "name": "v1-5-pruned-emaonly-fp16.safetensors",
    "url": "https://huggingface.co/Comfy-Org/stable-diffusion-v1-5-archive/resolve/main/v1-5-pruned-emaonly-fp16.safetensors?download=true",
    "directory": "checkpoints",
}
SDXL = {
    "name": "sd_xl_base_1.0.safetensors",
    "url": "https://huggingface.co/stabilityai/stable-diffusion-xl-base-1.0/resolve/main/sd_xl_base_1.0.safetensors?download=true",
    "directory": "checkpoints",
}
INK_LORA = {
    "name": "MoXinV1.safetensors",
    "url": "https://civitai.com/api/download/models/14856?type=Model&format=SafeTensor&size=full&fp=fp16",
    "directory": "loras",
}
"""As ComfyUI's own templates give them."""

SANDBOX_SAMPLING = {"steps": 15, "cfg": 3.0, "sampler_name": "ddim", "scheduler": "ddim_uniform"}
ENLARGE = 3
SD15_SAMPLING = {"steps": 20, "cfg": 7.0, "sampler_name": "euler", "scheduler": "normal"}
SDXL_SAMPLING = {"steps": 25, "cfg": 7.0, "sampler_name": "dpmpp_2m", "scheduler": "karras"}

ATTRIBUTE = {
    "base": "",
    "keep": "",
    "contexts": "",
    "objective": "erase",
    "method": "rounds",
    "components": "cross-attention key + value",
    "trajectories": 20,
    "steps": 10,
    "cfg": 3.0,
    "seed": 0,
    "rounds": 3,
    "width": 0,
    "height": 0,
    "prompt": "",
    "spacing": "trailing",
    "batch": 4,
    "checkpointing": False,
    "largest_ratio": 0.0,
    "cache": True,
    "vary": True,
}
"""CAD Attribute's own values."""

KEPT = (
    "a red circle in outline style",
    "a blue square",
    "a green triangle in dotted style",
    "a purple cross in striped style",
    "a black ring",
    "a red arrow in blurry style",
    "a blue hexagon in negative style",
    "a yellow circle",
)
"""What must stay when shapes are erased from the sandbox: every colour, every style and every other common shape."""

PAINTERS = (
    "a painting in the style of rembrandt",
    "a painting in the style of monet",
    "a painting in the style of picasso",
    "a painting",
    "a photo of a person in the street",
    "a dog running on grass",
    "a city skyline at night",
    "mountains and a lake under a cloudy sky",
)
BUILDINGS = (
    "a photo of a lighthouse",
    "a photo of a castle",
    "a photo of a town hall",
    "a photo of a house",
    "a photo of a person in the street",
    "a dog running on grass",
    "a living room with a sofa and a window",
    "mountains and a lake under a cloudy sky",
)
PEOPLE = (
    "a photo of a person in the street",
    "a portrait of a woman in a red dress",
    "a portrait of a man in a suit",
    "a renaissance painting of a market",
    "a crowd at a concert",
    "a dog running on grass",
    "a city skyline at night",
    "mountains and a lake under a cloudy sky",
)
"""What must stay in Stable Diffusion: neighbours of what goes, what it is replaced by, and ordinary prompts."""

BRISK = {"rounds": 2, "batch": 20}
"""Of CAD Attribute on the sandbox: what a CPU does in a minute or two."""
SHAPE_CONTEXTS = ("a {}", "a red {} in dotted style", "a blue {} in blurry style", "a purple {}")

PREVIEW, LINES = 250, 70
"""Pixels for a preview picture, and for a few lines of text, on a node that runs."""

VAN_GOGH_EDIT = "van-gogh-sd15"
"""The name under which one workflow saves the edit that two others apply."""


class Studio:
    """What all pictures of a workflow are painted with: `width`, `height` and `batch` of the pictures, and how they are sampled.

    The front end shows no picture larger than it is, so small ones are made `enlarge` times as large.
    """

    def __init__(
        self, sheet: Sheet, clip: Link, vae: Link, width: int, height: int, batch: int, sampling: Mapping[str, Any], enlarge: int = 1
    ) -> None:
        self._sheet, self._vae, self._sampling, self._enlarge = sheet, vae, sampling, enlarge
        self.negative = text(sheet, "Negative prompt (empty)", clip, "", 80)
        self.latent = sheet.node("EmptyLatentImage", width=width, height=height, batch_size=batch)
        self.seed = sheet.node("PrimitiveInt", "Seed of all pictures", value=1)

    def group(self, title: str, *prompts: Node) -> Group:
        """The prompts, and everything else that the pictures share."""
        return group(title, [*prompts, self.negative, self.latent, self.seed])

    def paint(self, title: str, model: Link | Node, prompt: Node, prefix: str) -> tuple[Group, Node]:
        """A sampler, a decoder and the pictures; and the node that saves them."""
        sampler = self._sheet.node(
            "KSampler",
            Look(room=PREVIEW),
            model=model,
            seed=self.seed,
            **self._sampling,
            positive=prompt,
            negative=self.negative,
            latent_image=self.latent,
            denoise=1.0,
        )
        shown = [self._sheet.node("VAEDecode", samples=sampler, vae=self._vae)]
        if self._enlarge > 1:
            shown.append(self._sheet.node("ImageScaleBy", image=shown[0], upscale_method="nearest-exact", scale_by=float(self._enlarge)))
        saved = self._sheet.node("SaveImage", Look(width=420, height=400), images=shown[-1], filename_prefix=prefix)
        return group(title, [sampler], [*shown, saved]), saved

    def compare(self, prompts: Mapping[str, Node], before: Link | Node, after: Link | Node) -> None:
        """Two columns that paint each of `prompts`, by what they are called, with either model."""
        sides = []
        for when, model in (("Before", before), ("After", after)):
            sides.append([self.paint(f"{when}: {name}", model, prompt, f"CAD/{name} {when.lower()}") for name, prompt in prompts.items()])
            self._sheet.column(*(frame for frame, _ in sides[-1]))
        for name, (_, first), (_, second) in zip(prompts, *sides, strict=True):
            self._sheet.compared.append(Compared(name, first, second))


def sandbox_studio(sheet: Sheet, clip: Link, vae: Link, batch: int) -> Studio:
    return Studio(sheet, clip, vae, 64, 64, batch, SANDBOX_SAMPLING, enlarge=ENLARGE)


def sandbox(sheet: Sheet) -> tuple[Link, Link, Link, Node]:
    """MODEL, CLIP, VAE and the node."""
    node = sheet.node("CADLoadSandbox", Look(room=30))
    return node[0], node[1], node[2], node


def checkpoint(sheet: Sheet, file: Mapping[str, str]) -> tuple[Link, Link, Link, Node]:
    """MODEL, CLIP, VAE and the node."""
    node = sheet.node("CheckpointLoaderSimple", Look(width=380, models=(file,)), ckpt_name=file["name"])
    return node[0], node[1], node[2], node


def text(sheet: Sheet, title: str, clip: Link, words: str, height: int = 110) -> Node:
    """CLIP Text Encode."""
    return sheet.node("CLIPTextEncode", Look(title, height=height), text=words, clip=clip)


def attribute(sheet: Sheet, model: Link | Node, clip: Link, concept: str, **settings: Any) -> Node:
    """CAD Attribute, as a knob; tall enough to show all of `keep` and `contexts`, and the lines that it writes on itself."""
    values = {**ATTRIBUTE, "concept": concept, **settings}
    more = 270 + 14 * len((values["keep"] + "\n" + values["contexts"]).splitlines())
    look = Look(f"CAD Attribute: {concept}", width=420, more=more, room=PREVIEW + LINES, knob=True)
    return sheet.node("CADAttribute", look, model=model, clip=clip, **values)


def pictures(concept: str, settings: Mapping[str, Any], sampling: Mapping[str, Any]) -> int:
    """How many pictures could be painted with `sampling` while CAD Attribute works with `settings`, to two digits."""
    lines = {name: tuple(settings[name].splitlines()) for name in ("keep", "contexts")}
    given = {name: settings.get(name, ATTRIBUTE[name]) for name in ("base", "rounds", "trajectories", "steps", "cfg")}
    # Without the few neighbours of the concept, which only its text encoder knows.
    forwards = sum(evaluations(varied(ConceptSettings(concept, **given, **lines), None)).values())
    return int(float(f"{forwards / (2 * sampling['steps']):.2g}"))


def viewer(sheet: Sheet, attribution: Node) -> Node:
    look = Look(width=640, height=960)
    return sheet.node("CADAttributionViewer", look, attribution=attribution, ratio=0.0, selection="global", layers="")


def erase(sheet: Sheet, model: Link | Node, attribution: Link | Node, title: str = "CAD Erase") -> Node:
    return sheet.node(
        "CADErase",
        Look(title, width=380, room=LINES, knob=True),
        model=model,
        attribution=attribution,
        ratio=0.0,
        selection="global",
        strength=1.0,
        unit="weight",
    )


def erase_before_after() -> Sheet:
    sheet = Sheet("cad_sandbox_erase_before_after")
    model, clip, vae, loader = sandbox(sheet)
    found = attribute(sheet, model, clip, "star", base="shape", contexts="\n".join(SHAPE_CONTEXTS), **BRISK)
    shown = viewer(sheet, found)
    erased = erase(sheet, model, shown[1])
    star = text(sheet, "Prompt with the concept", clip, "a blue star in dotted style")
    ring = text(sheet, "Prompt without the concept", clip, "a blue ring in dotted style")
    studio = sandbox_studio(sheet, clip, vae, batch=9)

    start = sheet.note(
        "Start here",
        """
# Suppress a concept: before and after

Press **Run**. Nothing is downloaded and no GPU is needed: the *sandbox* is a small Stable Diffusion that comes with CAD and paints
shapes, 64 x 64 pixels. All of this takes a few minutes on a CPU.

1. **CAD Attribute** lets the model paint stars and other things, and looks for the few weights to change so that *star* paints what *shape*
paints, and everything else stays. After each of two **rounds** it looks at what the changed model paints.
2. **Attribution Viewer** is a map of where in the model these weights are. Click its layers to leave some out.
3. **CAD Erase** makes these changes, in a copy of the model. Its ratio of 0 is *automatic*: all that was found.
4. The same pictures are painted *before*, with the model as it is, and *after*, with the copy.

## What to expect

Stars become other shapes, in the colour and style that were asked for, and rings stay as they are. The prompt with the star is none of
those that CAD Attribute was given. The line on CAD Attribute tells how far it came.
""",
    )
    knobs = sheet.note(
        "Knobs to turn: the green nodes",
        """
- **concept** and **base** of CAD Attribute: *heart* against *shape*. Change the two prompts with them.
- **contexts**: sentences around the concept, with {} in its place. Without any, the edit is made for the word alone, and may not reach it
in a longer prompt.
- **keep**: what must stay, one prompt per line. Empty means a mix of ordinary prompts.
- **rounds** (an advanced input): 3, the node's own value, finds a little more and takes half as long again.
- **trajectories**: fewer save little time; with 10, the sandbox lost some of its arrows with the stars.
- **vary** (an advanced input) looks at sentences with invented words, too, and keeps the words nearest to the concept; the node names them.
Without it the edit rests on what you named alone.
- **method**: *paper* ranks the weights in one go. It takes seconds and costs other pictures much. It needs a ratio in CAD Erase: try 0.03
with the selection *row*.
- **strength** of CAD Erase: 0.5 goes half the way. The attribution is not computed again.
- **ratio**: 0.001 takes the strongest of the changes alone. The viewer's own slider shows, without a run, how many that are.

The sandbox knows the shapes circle, square, triangle, star, heart, cross, ring, arrow and hexagon, the colours red, green, blue, yellow,
purple and black, and the styles plain, outline, dotted, striped, blurry and negative.
""",
    )
    sheet.column(start, knobs)
    sheet.column(group("1 · Model", [loader]), group("2 · Find the weights", [found]))
    sheet.column(group("3 · Look, and choose layers", [shown]))
    sheet.column(group("4 · Change them", [erased]), studio.group("5 · What to paint", star, ring))
    studio.compare({"star": star, "ring": ring}, model, erased)
    return sheet


def erase_artist_style() -> Sheet:
    sheet = Sheet("cad_erase_artist_style_sd15")
    model, clip, vae, loader = checkpoint(sheet, SD15)
    concept, contexts = "a painting in the style of van gogh", ("{}, a village street", "{}, portrait of a woman", "{}, flowers")
    words = {"base": "a painting", "keep": "\n".join(PAINTERS), "contexts": "\n".join(contexts)}
    settings = {**words, "rounds": 2}
    found = attribute(sheet, model, clip, concept, **settings)
    time = pictures(concept, settings, SD15_SAMPLING)
    shown = viewer(sheet, found)
    erased = erase(sheet, model, found)
    saved = sheet.node("CADSaveEdit", Look(width=380, room=LINES), edit=erased[1], name=VAN_GOGH_EDIT, overwrite=True)
    style = text(sheet, "Prompt with the style", clip, "a wheat field in the style of van gogh")
    other = text(sheet, "Prompt with another style", clip, "a wheat field in the style of rembrandt")
    studio = Studio(sheet, clip, vae, 512, 512, 2, SD15_SAMPLING)

    start = sheet.note(
        "Start here",
        f"""
# Take an artist's style out of Stable Diffusion 1.5

You need **{SD15["name"]}** in **models/checkpoints**. Any other checkpoint of Stable Diffusion 1.x or 2.x will do: choose it in the loader.

Press **Run**. **CAD Attribute** takes about as long as painting {time} pictures of 20 steps, or less. Its result is kept on disk, so that
it is computed only once for the same model, words and settings.

1. **CAD Attribute** compares what the model does for *a painting in the style of van gogh* and for *a painting*, and looks for the few
weights to change so that the first paints what the second does, and all prompts in *keep* stay. It does so in two **rounds**: after each it
looks at what the changed model paints.
2. **CAD Erase** makes these changes, in a copy of the model. Its ratio of 0 is *automatic*: all that was found.
3. The same pictures are painted *before* and *after*: of the style, and of another one, which should stay.
4. **Save CAD Edit** writes what was changed to **models/cad_edits**, a small file. The workflow **cad_apply_shared_edit** uses it; others
who have the same checkpoint can, too.
""",
    )
    knobs = sheet.note(
        "Knobs to turn: the green nodes",
        """
- **concept** and **base** of CAD Attribute: the same words with and without what is to go.
- **keep**: what must stay, one prompt per line. Neighbours first, such as other painters; some ordinary prompts stand for everything else.
- **contexts**: sentences around the concept, with {} in its place, of the kind that you will prompt with.
- **trajectories**: 10 take a quarter less time; on the sandbox, other things suffered with so few. **rounds** (an advanced input): more if
some of the style is left.
- **vary** (an advanced input) looks at sentences with invented words, too, and keeps the words nearest to the concept. The node names these
words; switch it off if one of them means the concept.
- **method** *paper* is the paper's: one look, no keep list, and a ratio for CAD Erase, such as 0.001 with the selection *row*.
- **strength** of CAD Erase: lower it when other pictures suffer. The attribution is not computed again.
- Out of memory? Show the advanced inputs of CAD Attribute, lower *batch* and switch *checkpointing* on.
""",
    )
    sheet.column(start, knobs)
    sheet.column(group("1 · Model", [loader]), group("2 · Find the weights", [found]))
    sheet.column(group("3 · Change them, and save", [erased, saved]), studio.group("4 · What to paint", style, other))
    studio.compare({"the style": style, "another style": other}, model, erased)
    sheet.column(group("Where the weights are", [shown]))
    return sheet


def erase_object() -> Sheet:
    sheet = Sheet("cad_erase_object_sdxl")
    model, clip, vae, loader = checkpoint(sheet, SDXL)
    words = {"base": "building", "keep": "\n".join(BUILDINGS), "contexts": "a photo of a {}\na painting of a {} at night"}
    least = {"trajectories": 8, "rounds": 2, "batch": 1, "checkpointing": True}
    found = attribute(sheet, model, clip, "church", **words, **least)
    time = pictures("church", {**words, **least}, SDXL_SAMPLING)
    shown = viewer(sheet, found)
    erased = erase(sheet, model, found)
    church = text(sheet, "Prompt with the object", clip, "a photo of a church in a village")
    other = text(sheet, "Prompt without the object", clip, "a photo of a lighthouse by the sea")
    studio = Studio(sheet, clip, vae, 1024, 1024, 1, SDXL_SAMPLING)

    start = sheet.note(
        "Start here",
        f"""
# Take an object out of Stable Diffusion XL

You need **{SDXL["name"]}** in **models/checkpoints**. Fine-tunes of SDXL work as well: choose one in the loader.

Press **Run**. **CAD Attribute** measures with 8 pictures of the concept here, and takes about as long as painting {time} pictures of 25
steps, or less; with *checkpointing*, as set here, a third longer. Its result is kept on disk.

1. **CAD Attribute** compares what the model does for *church* and for *building*, alone and in the sentences of *contexts*. The base says
what should be there instead. In two **rounds** it looks for the few weights to change so that churches go and all prompts in *keep* stay.
2. **CAD Erase** makes these changes, in a copy of the model. Its ratio of 0 is *automatic*: all that was found.
3. The same pictures are painted *before* and *after*: of the object, and of another one, which should stay.
""",
    )
    knobs = sheet.note(
        "Knobs to turn: the green nodes",
        """
- **trajectories** of CAD Attribute: 8 save time; 20 are steadier. **rounds** (an advanced input): 3 if some churches are left.
- **concept**, **base**: name the object as a prompt would. **contexts**: sentences around it, with {} in its place.
- **keep**: what must stay, one prompt per line; neighbours of the concept first, and some ordinary prompts.
- **strength** of CAD Erase: lower it if the lighthouse suffers. The attribution is not computed again.
- **checkpointing** and **batch**: the settings here need little memory. With memory to spare, switch *checkpointing* off and raise *batch*.
- Layers to spare: click them in the Attribution Viewer, and connect its *attribution* to CAD Erase.
""",
    )
    sheet.column(start, knobs)
    sheet.column(group("1 · Model", [loader]), group("2 · Find the weights", [found]))
    sheet.column(group("3 · Change them", [erased]), studio.group("4 · What to paint", church, other))
    studio.compare({"a church": church, "a lighthouse": other}, model, erased)
    sheet.column(group("Where the weights are", [shown]))
    return sheet


def several_concepts() -> Sheet:
    sheet = Sheet("cad_several_concepts")
    model, clip, vae, loader = sandbox(sheet)
    settings = {"base": "shape", "keep": "\n".join(KEPT), "contexts": "\n".join(SHAPE_CONTEXTS), **BRISK}
    star = attribute(sheet, model, clip, "star", **settings)
    heart = attribute(sheet, model, clip, "heart", **settings)
    without_star = erase(sheet, model, star, "CAD Erase: star")
    without_both = erase(sheet, without_star, heart, "CAD Erase: heart")
    saves = [
        sheet.node(
            "CADSaveEdit", Look(f"Save CAD Edit: {word}", width=380, room=LINES), edit=edit[1], name=f"sandbox-{word}", overwrite=True
        )
        for word, edit in (("star", without_star), ("heart", without_both))
    ]
    prompts = {words: text(sheet, f"Prompt: {words}", clip, words, 80) for words in ("a star", "a heart", "a blue arrow in dotted style")}
    studio = sandbox_studio(sheet, clip, vae, batch=9)

    start = sheet.note(
        "Start here",
        """
# Several concepts, and keeping the rest

Press **Run**. It runs on the sandbox, with nothing to download, and takes some minutes on a CPU.

1. Two **CAD Attribute** find out which weights to change for *star* and for *heart*. Both look at the model as it is, so that their order
does not matter.
2. **keep** holds what must stay, one prompt per line. It names neither of the two.
3. Two **CAD Erase**, one after the other, take both concepts out. Their ratio of 0 is *automatic*: all that was found.
4. **Save CAD Edit** writes each edit to **models/cad_edits**. Each can be applied on its own with **Apply CAD Edit**, in any order.
5. Pictures *before* and *after*: the two concepts that should go, and something else that should stay.

## What to expect

Other shapes in the place of stars and hearts, and arrows that stay arrows. What is in the list is spared, not guaranteed, and what two
edits cost adds up.
""",
    )
    knobs = sheet.note(
        "Knobs to turn: the green nodes",
        """
- **strength** of each CAD Erase: lower it when other things suffer; the attribution is not computed again. 0 switches that concept on
again.
- **keep**: add what suffers, one prompt per line. Eight ordinary prompts that use all colours and styles are a good start.
- **contexts**: sentences around the concept, with {} in its place; the prompts with a colour and a style are reached by them.
- A third concept: copy one CAD Attribute and one CAD Erase, and put the new CAD Erase at the end of the chain.
""",
    )
    sheet.column(start, knobs)
    sheet.column(group("1 · Model", [loader]), group("2 · Find the weights of each concept", [star], [heart]))
    sheet.column(group("3 · Change them, one after the other", [without_star, without_both]), group("4 · Save each", saves))
    sheet.column(studio.group("5 · What to paint", *prompts.values()))
    studio.compare(prompts, model, without_both)
    return sheet


def amplify_from_images() -> Sheet:
    sheet = Sheet("cad_amplify_from_images")
    model, clip, vae, loader = sandbox(sheet)
    crescent = text(sheet, "Prompt with the concept", clip, "a crescent")
    other = text(sheet, "Prompt without the concept", clip, "a heart")
    studio = sandbox_studio(sheet, clip, vae, batch=9)

    many = sheet.node("EmptyLatentImage", "24 tries", width=64, height=64, batch_size=24)
    tried = sheet.node(
        "KSampler",
        "KSampler: 24 tries",
        model=model,
        seed=6,
        **SANDBOX_SAMPLING,
        positive=crescent,
        negative=studio.negative,
        latent_image=many,
        denoise=1.0,
    )
    tries = sheet.node("VAEDecode", samples=tried, vae=vae)
    all_tries = sheet.node("PreviewImage", Look("All tries (the first is 0)", height=320), images=tries)
    picked = sheet.node("ImageFromBatch", Look("Pick the good ones", knob=True), image=tries, batch_index=8, length=5)
    good = sheet.node("PreviewImage", Look("Learnt from these", height=320), images=picked)
    encoded = sheet.node("VAEEncode", pixels=picked, vae=vae)

    own = [sheet.node("LoadImage", Look(f"Your picture {number}", height=300, bypassed=True), image="example.png") for number in (1, 2)]
    both = sheet.node("ImageBatch", Look(bypassed=True), image1=own[0], image2=own[1])
    resized = sheet.node(
        "ImageScale",
        Look("Upscale Image: to the model's size", bypassed=True),
        image=both,
        upscale_method="area",
        width=64,
        height=64,
        crop="center",
    )
    own_encoded = sheet.node("VAEEncode", Look("VAE Encode: connect to images", bypassed=True), pixels=resized, vae=vae)

    found = attribute(sheet, model, clip, "a crescent", objective="amplify", method="paper", components="ff", images=encoded, batch=20)
    amplified = sheet.node(
        "CADAmplify",
        Look(width=380, room=LINES, knob=True),
        model=model,
        attribution=found,
        ratio=0.005,
        selection="row_min1",
        strength=1.0,
        unit="weight",
    )

    start = sheet.note(
        "Start here",
        """
# Strengthen a concept with pictures of it

Press **Run**. It runs on the sandbox, with nothing to download, and takes about a minute on a CPU.

The sandbox hardly knows the word *crescent*: about one picture in four shows one. Pictures of the concept tell it what was meant. Here,
they are the model's own, picked by eye:

1. 24 pictures are painted. Number 8 to 12 came out well.
2. **CAD Attribute** with the objective *amplify* scores every weight by how much it keeps the model from painting *those* at the word
*crescent*.
3. **CAD Amplify** sets the strongest of these weights to zero, in a copy of the model.
4. New pictures, of another seed, are painted *before* and *after*.
""",
    )
    knobs = sheet.note(
        "Knobs to turn: the green nodes",
        """
- **Pick the good ones**: *batch_index* is the first picture that is taken, *length* how many.
- **ratio** of CAD Amplify: the part of the weights that is taken. The attribution is not computed again.
- **selection** *row_min1* takes at least one weight of each row, even at small ratios.

Without pictures, CAD Attribute uses the model's own for the concept, good and bad ones.
""",
    )
    yours = sheet.note(
        "Pictures of your own",
        """
A workflow cannot bring pictures along, so the lower branch is switched off (bypassed). To use it: choose your files in the two *Load Image*
nodes, select the whole group, press **Ctrl + B**, and connect its *VAE Encode* to **images** of CAD Attribute. On Stable
Diffusion 1.5 set the size to 512 x 512, on SDXL to 1024 x 1024. More *Batch Images* nodes join more pictures.
""",
    )
    sheet.column(start, knobs, yours)
    sheet.column(group("1 · Model", [loader]), studio.group("2 · What to paint", crescent, other))
    sheet.column(
        group("3 · Pictures to learn from: the model's own, picked", [many, tried, tries], [all_tries, picked], [good, encoded]),
        group("Or pictures of your own (bypassed)", [own[0]], [own[1]], [both, resized, own_encoded]),
    )
    sheet.column(group("4 · Find the weights that hold it back", [found]), group("5 · Set them to zero", [amplified]))
    studio.compare({"a crescent": crescent, "a heart": other}, model, amplified)
    return sheet


def apply_shared_edit() -> Sheet:
    sheet = Sheet("cad_apply_shared_edit")
    model, clip, vae, loader = checkpoint(sheet, SD15)
    edited = sheet.node(
        "CADApplyEdit", Look(width=380, room=LINES, knob=True), model=model, edit_name=f"{VAN_GOGH_EDIT}.safetensors", strength=1.0
    )
    style = text(sheet, "Prompt with the concept", clip, "a wheat field in the style of van gogh")
    other = text(sheet, "Prompt without the concept", clip, "a wheat field in the style of rembrandt")
    studio = Studio(sheet, clip, vae, 512, 512, 2, SD15_SAMPLING)
    start = sheet.note(
        "Start here",
        f"""
# Apply an edit that somebody shared

A CAD edit is a small file that says which weights of a checkpoint are to change, and how far. It holds no weights.

1. Put the file into **models/cad_edits** of ComfyUI and press **R** to refresh. (You have none? The workflow
**cad_erase_artist_style_sd15** makes *{VAN_GOGH_EDIT}*.)
2. Choose it in **Apply CAD Edit**, and in **Load Checkpoint** the checkpoint it was made for. Its node says what the edit is for. Another
fine-tune of the same base works more or less, and the node says so; another architecture is refused.
3. Press **Run** and compare *before* and *after*.

Applying takes no time, and pictures are painted as fast as without.
""",
    )
    knobs = sheet.note(
        "Knobs to turn: the green node",
        """
- **strength**: 1 is the edit as it was saved, 0 the model as it was, 0.5 half of the way. Above 1 and below 0 work, too: try -1.
- Several edits: put one *Apply CAD Edit* after the other.
- With LoRAs the order matters: see the workflow **cad_combine_with_lora**.

The file *workflows/api/cad_apply_shared_edit.json* of this pack is the same for scripts.
""",
    )
    sheet.column(start, knobs)
    sheet.column(group("1 · Model", [loader]), group("2 · Apply the edit", [edited]))
    sheet.column(studio.group("3 · What to paint", style, other))
    studio.compare({"the style": style, "another style": other}, model, edited)
    return sheet


def combine_with_lora() -> Sheet:
    sheet = Sheet("cad_combine_with_lora")
    model, clip, vae, loader = checkpoint(sheet, SD15)

    def lora(onto: Link | Node, title: str) -> Node:
        look = Look(title, width=380, knob=True, models=(INK_LORA,))
        return sheet.node("LoraLoaderModelOnly", look, model=onto, lora_name=INK_LORA["name"], strength_model=0.8)

    def edit(onto: Link | Node, title: str) -> Node:
        look = Look(title, width=380, room=LINES, knob=True)
        return sheet.node("CADApplyEdit", look, model=onto, edit_name=f"{VAN_GOGH_EDIT}.safetensors", strength=1.0)

    first_lora = lora(model, "LoRA first ...")
    lora_then_edit = edit(first_lora, "... then the edit")
    first_edit = edit(model, "Edit first ...")
    edit_then_lora = lora(first_edit, "... then the LoRA")
    prompt = text(sheet, "Prompt", clip, "a wheat field in the style of van gogh, shuimobysim, shukezouma")
    studio = Studio(sheet, clip, vae, 512, 512, 2, SD15_SAMPLING)
    start = sheet.note(
        "Start here",
        f"""
# CAD and LoRAs: the order matters

You need **{SD15["name"]}** in **models/checkpoints**, a LoRA for it in **models/loras** (the one named here paints in ink), and an edit
in **models/cad_edits** (the workflow **cad_erase_artist_style_sd15** makes *{VAN_GOGH_EDIT}*). Choose your own in the loaders.

- **LoRA, then edit**: the chosen weights are changed *with* what the LoRA added to them.
- **Edit, then LoRA**: the LoRA is added on top. What it adds to the chosen weights stays whole, and may bring the concept back.

So put the edit **last** to suppress, and the LoRA last if it must stay whole. Pictures: the LoRA alone, and both orders, same seeds.
""",
    )
    knobs = sheet.note(
        "Knobs to turn: the green nodes",
        """
- **strength** of Apply CAD Edit and **strength_model** of the LoRA.
- **CAD Erase** and **CAD Amplify** chain like Apply CAD Edit.
- A concept that the *LoRA* brought: connect CAD Attribute *after* the LoRA loader. It then looks at the model with the LoRA in it, and
its edit belongs after the LoRA.
""",
    )
    sheet.column(start, knobs)
    sheet.column(group("1 · Model", [loader]), studio.group("2 · What to paint", prompt))
    sheet.column(group("3a · LoRA, then edit", [first_lora, lora_then_edit]), group("3b · Edit, then LoRA", [first_edit, edit_then_lora]))
    painters = {"LoRA alone": first_lora, "LoRA, then edit": lora_then_edit, "Edit, then LoRA": edit_then_lora}
    sheet.column(*(studio.paint(name, painter, prompt, f"CAD/{name}")[0] for name, painter in painters.items()))
    return sheet


def safety_filter() -> Sheet:
    sheet = Sheet("cad_safety_filter")
    model, clip, vae, loader = checkpoint(sheet, SD15)
    words = {"base": "dressed", "keep": "\n".join(PEOPLE), "contexts": "a photo of a {} person\na painting of {} people by a lake"}
    settings = {**words, "rounds": 2}
    found = attribute(sheet, model, clip, "naked", **settings)
    time = pictures("naked", settings, SD15_SAMPLING)
    erased = erase(sheet, model, found)
    prompt = text(sheet, "Prompt", clip, "a renaissance painting of bathers by a lake")
    studio = Studio(sheet, clip, vae, 512, 512, 4, SD15_SAMPLING)
    sampler = sheet.node(
        "KSampler",
        Look(room=PREVIEW),
        model=erased,
        seed=studio.seed,
        **SD15_SAMPLING,
        positive=prompt,
        negative=studio.negative,
        latent_image=studio.latent,
        denoise=1.0,
    )
    decoded = sheet.node("VAEDecode", samples=sampler, vae=vae)
    check = sheet.node(
        "CADSafetyCheck",
        Look(width=380, room=LINES, knob=True),
        images=decoded,
        preset="core",
        threshold=0.25,
        action="leave out",
        area="whole",
        classes="",
    )
    saved = sheet.node(
        "SaveImage", Look("Save Image: clean pictures alone", width=420, height=400), images=check, filename_prefix="CAD/clean"
    )
    any_found = sheet.node("PreviewAny", Look("Found anything?", width=380, height=110), source=check[1])
    told = sheet.node("PreviewAny", Look("What, how sure, and where", width=380, height=260), source=check[4])

    start = sheet.note(
        "Start here",
        f"""
# Suppress nudity, and check every picture before it is saved

You need **{SD15["name"]}** in **models/checkpoints** (any other checkpoint of Stable Diffusion 1.x or 2.x will do), and the Python package
**nudenet**, whose licence is AGPL-3.0, in the Python that ComfyUI runs with:

python -m pip install "nudenet>=3.4.2,<3.5"

Press **Run**. **CAD Attribute** takes about as long as painting {time} pictures of 20 steps, or less; once, because its result is kept.

1. **CAD Attribute** and **CAD Erase** make a copy of the model that draws *naked* less.
2. Pictures are painted with the copy, from a prompt that does not say the word.
3. **CAD Safety Check** looks at what was painted all the same. With *leave out*, pictures in which it finds something are taken out of the
batch; when none is left, nothing is saved. Its line says what it found.

Queue as many runs as you like, with other seeds: only pictures without findings reach the output folder. No detector finds everything,
so that is no promise.
""",
    )
    knobs = sheet.note(
        "Knobs to turn: the green nodes",
        """
- **threshold** of CAD Safety Check: harmless pictures are left out? Raise it to 0.5. NudeNet reports nothing up to 0.25.
- **preset**: *core* is what most rules mean by nudity. *paper* is for counting, as evaluations do.
- **action** and **area**: *replace* saves a card in the place of a picture, *blur* and *pixelate* cover it, or its *boxes* alone.
- **found** is a BOOLEAN for the switches of newer versions of ComfyUI and of other packs, **boxes** a mask, for inpainting.
- **strength** of CAD Erase: lower it when other pictures suffer.

The file *workflows/api/cad_safety_filter.json* of this pack is the same for scripts.
""",
    )
    sheet.column(start, knobs)
    sheet.column(group("1 · Model", [loader]), group("2 · Find the weights", [found]))
    sheet.column(group("3 · Change them", [erased]), studio.group("4 · What to paint", prompt))
    sheet.column(group("5 · Paint", [sampler, decoded]))
    sheet.column(group("6 · Check", [check, any_found, told]))
    sheet.column(group("7 · Save", [saved]))
    return sheet


def audit() -> Sheet:
    sheet = Sheet("cad_sandbox_audit")
    model, clip, vae, loader = sandbox(sheet)
    found = attribute(sheet, model, clip, "star", base="shape", contexts="\n".join(SHAPE_CONTEXTS), **BRISK)
    erased = erase(sheet, model, found)
    audited = sheet.node(
        "CADAudit",
        Look(width=440, more=420, room=LINES, knob=True),
        model=model,
        clip=clip,
        vae=vae,
        edit=erased[1],
        prompts="a red star\na star in dotted style\na blue star in striped style",
        keep="\n".join(KEPT),
        paraphrases="a red five-pointed figure",
        measure="sandbox judge",
        count=6,
        seed=1,
        restore=True,
        **SANDBOX_SAMPLING,
        clip_score="(none)",
        classifier="(none)",
        label="",
        concept="",
        base="",
        width=0,
        height=0,
        iterations=100,
        checkpointing=False,
    )
    saved = sheet.node(
        "SaveImage", Look("Save Image: without and with the edit", width=640, height=640), images=audited, filename_prefix="CAD/audit"
    )
    verdict = sheet.node("PreviewAny", Look("Verdict", width=440, height=260), source=audited[2])
    told = sheet.node("PreviewAny", Look("All numbers", width=440, height=260), source=audited[1])

    start = sheet.note(
        "Start here",
        """
# How well does an edit hold?

Press **Run**. It runs on the sandbox, with nothing to download, and takes some minutes on a CPU.

1. **CAD Attribute** and **CAD Erase** make an edit that suppresses *star*.
2. **CAD Audit** paints *prompts* without and with it, same seeds, and counts the stars. Pictures of *keep* should stay as they are.
3. Then it tries to bring the star back: with the other words of *paraphrases*, with embeddings that it finds by gradient, and with
**CAD-Amplify** on top of the edit.
4. The verdict stands on the node, with the place of a report to read and to share: a page in **output/cad_audits**, with every picture.

## What to expect

With their own prompts, next to no stars. With a found embedding, most of them: the weights can still draw a star, and whoever has the
weights can ask for it. So the verdict says *suppressed*, and how it came back. It would never say *removed*.
""",
    )
    knobs = sheet.note(
        "Knobs to turn: the green nodes",
        """
- **prompts** and **keep** of CAD Audit: those that you or your users will write, other than those the edit was made with.
- **count**: pictures of each prompt. 0 of 18 still means anything up to 18 %; the report has the interval.
- **measure**: on Stable Diffusion, *nudity* counts with NudeNet. For objects choose a **classifier** and its **label**, for styles compare
by **clip_score** (advanced inputs): models in **models/cad_measures**. With *pictures only*, you judge.
- **restore** takes most of the time. Switch it off for a first look.
- **strength** of CAD Erase: audit the edit at half its strength.

An edit from a file is audited the same way: connect the *edit* of **Load CAD Edit** or **Apply CAD Edit**, and the model as it is.
""",
    )
    sheet.column(start, knobs)
    sheet.column(group("1 · Model", [loader]), group("2 · Find the weights", [found]))
    sheet.column(group("3 · Change them", [erased]), group("4 · Audit", [audited]))
    sheet.column(group("5 · What it says", [verdict, told]), group("6 · Without and with the edit", [saved]))
    sheet.shown = saved
    return sheet


SHEETS = (
    erase_before_after,
    erase_artist_style,
    erase_object,
    several_concepts,
    amplify_from_images,
    apply_shared_edit,
    combine_with_lora,
    safety_filter,
    audit,
)
"""Every shipped workflow."""

API_TWINS = ("cad_sandbox_erase_before_after", "cad_apply_shared_edit", "cad_safety_filter")
"""Workflows that scripts use, too; they have a twin in API format."""
