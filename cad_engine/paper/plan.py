"""What a table is made of: edits, pictures painted with and without them, and the judge of each list of pictures."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from torch import Tensor

from ..concept_settings import ConceptSettings
from ..selection import Rule
from .judges import PictureJudge
from .prompts import Case

Method = Literal["paper", "rounds"]
UNEDITED = "unedited"
TITLES = {
    1: "Objects erased: accuracy on the erased class and on the others",
    2: "Nudity erased: detections in pictures of I2P and of adversarial prompts",
    3: "Artists erased: distance from the unedited picture, of the erased artist and of the others",
    4: "Nudity erased: pictures of ordinary prompts",
    5: "Objects amplified: accuracy on the amplified class",
    6: "Nudity amplified, an audit: detections in pictures of I2P",
}
TABLES = tuple(TITLES)


@dataclass(frozen=True)
class PlannedEdit:
    """An edit that a table needs.

    Attributes:
        name: of the class, artist or concept that it is about.
        settings: of the attribution.
        ratio, rule: of the selection; ratio None takes all that rounds found.
        images: pictures [N, 3, H, W] to amplify with, None for the model's own.
        source: what `images` are, for the results.
    """

    name: str
    settings: ConceptSettings
    ratio: float | None
    rule: Rule = "row"
    images: Callable[[], Tensor] | None = None
    source: str = ""

    @property
    def file_name(self) -> str:
        """ "erase-star-1f0c9a52d7.safetensors": one for each setting, so that those of other runs are never taken for it."""
        plain = "".join(sign if sign.isascii() and sign.isalnum() else "-" for sign in self.name.casefold())[:40]
        return f"{self.settings.objective}-{plain}-{digest(self.described())[:10]}.safetensors"

    def described(self) -> dict[str, Any]:
        """Everything that the edit depends on but the model."""
        settings = {key: value for key, value in asdict(self.settings).items() if key not in ("batch", "checkpointing")}
        return {"name": self.name, "settings": settings, "ratio": self.ratio, "rule": self.rule, "images": self.source}


@dataclass(frozen=True)
class PictureList:
    """Pictures that are painted with the unedited model and with every edit, or only with the edit of their own group."""

    name: str
    cases: tuple[Case, ...]
    judge: PictureJudge
    own_edit_only: bool = False

    def cases_of(self, arm: str) -> list[int]:
        """Numbers of the cases that are painted with the edit named `arm`, or UNEDITED."""
        return [number for number, case in enumerate(self.cases) if arm == UNEDITED or not self.own_edit_only or case.group == arm]


@dataclass(frozen=True)
class Table:
    """One table.

    Attributes:
        stand_ins: what is in the place of what the paper used, and what was left out, for the results; empty where nothing is.
        steps: of DDIM sampling; guidance is that of cases which say none. size is (height, width) of the latents, None for the model's own.
    """

    number: int
    edits: tuple[PlannedEdit, ...]
    lists: tuple[PictureList, ...]
    steps: int
    guidance: float
    size: tuple[int, int] | None = None
    stand_ins: tuple[str, ...] = ()

    @property
    def arms(self) -> tuple[str, ...]:
        """The unedited model and each edit."""
        return (UNEDITED, *(edit.name for edit in self.edits))

    def guidance_of(self, case: Case) -> float:
        return self.guidance if case.guidance is None else case.guidance

    def described(self) -> dict[str, Any]:
        """Everything that the numbers depend on but the model and the number of pictures painted together."""
        return {
            "table": self.number,
            "steps": self.steps,
            "guidance": self.guidance,
            "size": None if self.size is None else list(self.size),
            "edits": {edit.name: edit.described() for edit in self.edits},
            "lists": {
                one.name: {"judge": one.judge.name, "pictures": len(one.cases), "cases": digest([asdict(case) for case in one.cases])}
                for one in self.lists
            },
        }


def digest(value: Any) -> str:
    """64 hexadecimal digits of JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=True, default=str).encode()).hexdigest()


def first_of_groups(cases: Sequence[Case], pictures: int | None) -> tuple[Case, ...]:
    """The first `pictures` cases of each group, all of them for None."""
    seen: dict[str, int] = {}
    kept = []
    for case in cases:
        seen[case.group] = seen.get(case.group, 0) + 1
        if pictures is None or seen[case.group] <= pictures:
            kept.append(case)
    return tuple(kept)


def with_group(cases: Sequence[Case], group: str) -> list[Case]:
    """`cases` as being about `group`."""
    return [replace(case, group=group) for case in cases]
