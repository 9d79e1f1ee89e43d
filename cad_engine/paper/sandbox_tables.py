"""The tables in the sandbox's world, with no file of anybody's: shapes are the classes, styles the artists, "red" stands for nudity.

The same code runs as on Stable Diffusion; what stands in the place of what is said in the results. The numbers are the sandbox's own.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from ..checkpoints.denoiser import DiffusersDenoiser
from ..concept_settings import ConceptSettings
from ..measures.lpips import SandboxDistance
from ..measures.sandbox import SandboxConcept, SandboxRight
from ..sandbox.captions import PARAPHRASES, concept_prompts, kind_of
from ..sandbox.demo import DEFAULT_RATIO, DEFAULT_RULE, DemoSettings, concept_images, rounds_settings
from ..sandbox.evaluation import CFG, STEPS, other_cases, target_cases
from ..sandbox.world import SHAPES, STYLES
from .judges import ByGroup, ByMeasure, FromUnedited
from .plan import Method, PictureList, PlannedEdit, Table, first_of_groups, with_group
from .prompts import Case

CLASSES = SHAPES
ARTISTS = tuple(style for style in STYLES if style != "plain")
AMPLIFIED = ("crescent", "arrow", "hexagon", "ring", "heart")
NUDITY = "red"
"""What stands for nudity: a colour."""
OF_A_GROUP, OF_A_LIST = 6, 36
"""Pictures of a class or style, and of a list, when nobody says how many."""
SEED = 60_000
"""Of the pictures, far from those that attribution samples."""
IMAGES = 20
"""Drawn pictures to amplify with."""


@dataclass(frozen=True)
class SandboxTables:
    """The six tables; `concepts` edits of each at most, and `pictures` of each class, style and list at most (None: the usual number)."""

    denoiser: DiffusersDenoiser
    method: Method = "paper"
    concepts: int | None = None
    pictures: int | None = None
    ratio: float | None = None

    def table(self, number: int) -> Table:
        """Table `number`."""
        return {
            1: self._classes,
            2: self._nudity,
            3: self._artists,
            4: self._ordinary,
            5: self._amplified_classes,
            6: self._amplified_nudity,
        }[number]()

    def _made(self, number: int, edits: list[PlannedEdit], lists: list[PictureList], stand_ins: list[str]) -> Table:
        return Table(
            number, tuple(edits), tuple(lists), STEPS, CFG, stand_ins=("the sandbox is in the place of Stable Diffusion 1.4", *stand_ins)
        )

    def _classes(self) -> Table:
        judge = ByGroup("the sandbox's judge sees the shape", {word: SandboxConcept(word) for word in CLASSES})
        lists = [PictureList("imagenette", self._grouped(CLASSES), judge)]
        stand_ins = ["shapes are in the place of ImageNette's classes", "the sandbox's judge is in the place of ResNet-50"]
        return self._made(1, [self._erase(word) for word in CLASSES[: self.concepts]], lists, stand_ins)

    def _nudity(self) -> Table:
        judge = ByMeasure(SandboxConcept(NUDITY))
        other = {"mma": {NUDITY: PARAPHRASES[NUDITY]}, "ring-a-bell": {word: PARAPHRASES[word] for word in (NUDITY, *SHAPES)}}
        named = self._named(NUDITY)
        lists = [PictureList("i2p", named, judge)]
        lists += [
            PictureList(name, tuple(Case(_reworded(case.prompt, words), case.seed) for case in named), judge)
            for name, words in other.items()
        ]
        stand_ins = [
            f"the colour “{NUDITY}” is in the place of nudity, and sandbox captions that name it in that of I2P",
            f"captions that say “{PARAPHRASES[NUDITY]}” are in the place of MMA-Diffusion's prompts, and those with the other word for the "
            "shape, too, in that of Ring-A-Bell's; nobody attacked anything",
            "pictures in which the sandbox's judge sees the colour are in the place of NudeNet's detections",
        ]
        return self._made(2, [self._erase(NUDITY)], lists, stand_ins)

    def _artists(self) -> Table:
        lists = [PictureList("artists", self._grouped(ARTISTS), FromUnedited(SandboxDistance()))]
        stand_ins = ["styles are in the place of artists", "the features of the sandbox's judge are in the place of AlexNet's in LPIPS"]
        return self._made(3, [self._erase(word) for word in ARTISTS[: self.concepts]], lists, stand_ins)

    def _ordinary(self) -> Table:
        cases = tuple(Case(case.prompt, case.seed) for case in other_cases(NUDITY, self.pictures or OF_A_LIST, SEED))
        lists = [PictureList("coco", cases, ByMeasure(SandboxRight()))]
        stand_ins = [
            f"the colour “{NUDITY}” is in the place of nudity, and sandbox captions without it in that of COCO's",
            "the part of the pictures in which the sandbox's judge sees all that the caption names is in the place of the CLIP score",
        ]
        return self._made(4, [self._erase(NUDITY)], lists, stand_ins)

    def _amplified_classes(self) -> Table:
        words = AMPLIFIED[: self.concepts]
        judge = ByGroup("the sandbox's judge sees the shape", {word: SandboxConcept(word) for word in words})
        lists = [PictureList("imagenette", self._grouped(words), judge, own_edit_only=True)]
        stand_ins = ["shapes are in the place of ImageNette's classes", "the sandbox's judge is in the place of ResNet-50"]
        return self._made(5, [self._amplify(word) for word in words], lists, stand_ins)

    def _amplified_nudity(self) -> Table:
        lists = [PictureList("i2p", self._named(NUDITY), ByMeasure(SandboxConcept(NUDITY)))]
        stand_ins = [
            f"the colour “{NUDITY}” is in the place of nudity, and sandbox captions that name it in that of I2P",
            "pictures in which the sandbox's judge sees the colour are in the place of NudeNet's detections",
        ]
        return self._made(6, [self._amplify(NUDITY)], lists, stand_ins)

    def _named(self, word: str, count: int = OF_A_LIST) -> tuple[Case, ...]:
        return tuple(Case(case.prompt, case.seed) for case in target_cases(word, self.pictures or count, SEED))

    def _grouped(self, words: tuple[str, ...]) -> tuple[Case, ...]:
        cases = [case for word in words for case in with_group(self._named(word, OF_A_GROUP), word)]
        return first_of_groups(cases, self.pictures)

    def _erase(self, word: str) -> PlannedEdit:
        if self.method == "rounds":
            return PlannedEdit(word, rounds_settings(self.denoiser, DemoSettings(word)), None)
        prompts = concept_prompts(word)
        settings = ConceptSettings(prompts.sample, base=prompts.base, components=("ff",), steps=4, spacing="centred", batch=20)
        return PlannedEdit(word, settings, DEFAULT_RATIO["erase"] if self.ratio is None else self.ratio, DEFAULT_RULE["erase"])

    def _amplify(self, word: str) -> PlannedEdit:
        settings = ConceptSettings(concept_prompts(word).sample, objective="amplify", components=("ff",), batch=20)
        ratio = DEFAULT_RATIO["amplify"] if self.ratio is None else self.ratio
        images = partial(concept_images, word, IMAGES, 0)
        return PlannedEdit(word, settings, ratio, DEFAULT_RULE["amplify"], images, f"{IMAGES} drawn pictures of the {kind_of(word)} {word}")


def _reworded(prompt: str, words: dict[str, str]) -> str:
    return " ".join(words.get(word, word) for word in prompt.split(" "))
