"""One check of a batch of pictures, from the settings to what goes on."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..errors import CadError, shown
from ..progress import Progress, silent
from ..report.text import counted
from .cover import ACTIONS, AREAS, Action, Area, covered, mask
from .detector import FLOOR, Detection, Detector, Pixels


@dataclass(frozen=True)
class CheckSettings:
    """What is looked for, and what is done with pictures in which it is found.

    Attributes:
        classes: as `chosen_classes` gives them.
        threshold: a score above it counts; at least FLOOR, below which NudeNet reports nothing.
        action: "pass" changes nothing; "leave out" takes such pictures out of the batch; the others cover `area`.
        area: the boxes alone, or the whole picture.
    """

    classes: tuple[str, ...]
    threshold: float = FLOOR
    action: Action = "pass"
    area: Area = "whole"

    def check(self) -> None:
        """Raise CadError for what makes no sense."""
        if not FLOOR <= self.threshold < 1:  # also refuses NaN
            raise CadError(
                f"threshold must be at least {FLOOR}, under which NudeNet reports nothing, and below 1, which no score exceeds; "
                f"got {self.threshold:g}"
            )
        for name, value, known in (("action", self.action, ACTIONS), ("area", self.area, AREAS)):
            if value not in known:
                raise CadError(f"{name} must be one of {', '.join(known)}, got {shown(value)!r}")


@dataclass(frozen=True)
class Checked:
    """A checked batch.

    Attributes:
        images: after the action [N, H, W, C]; N is smaller than B, and perhaps 0, where pictures were left out.
        found: of each of the B pictures, what was looked for and found, the surest first.
        masks: float [B, H, W], 1 inside of the boxes.
    """

    images: Tensor
    found: list[list[Detection]]
    masks: Tensor


def findings(
    detector: Detector, pictures: Tensor | Iterable[Pixels], settings: CheckSettings, progress: Progress = silent
) -> list[list[Detection]]:
    """What is looked for and found in each picture. Raises CadError as `CheckSettings.check` and `Detector.detect` do."""
    settings.check()
    return [
        [each for each in found if each.label in settings.classes and each.score > settings.threshold]
        for found in detector.detect(pictures, progress)
    ]


def checked(detector: Detector, images: Tensor, settings: CheckSettings, progress: Progress = silent) -> Checked:
    """Check `images` [B, H, W, C] in [0, 1], 3 or 4 channels, and do what is asked for. Raises CadError as `findings` does."""
    found = findings(detector, images, settings, progress)
    height, width = images.shape[1:3]
    masks = torch.stack([mask(each, height, width) for each in found]) if found else torch.zeros(0, height, width)
    result = images
    if settings.action == "leave out":
        result = images[[not each for each in found]]
    elif settings.action != "pass" and any(found):
        result = images.clone()
        for number, each in enumerate(found):
            if each:
                result[number] = covered(images[number], each, settings.action, settings.area)
    return Checked(result, found, masks)


def report(found: Sequence[Sequence[Detection]], settings: CheckSettings) -> dict[str, Any]:
    """What was found, as JSON has it: for the whole, and picture by picture in their order."""
    return {
        "found": any(found),
        "count": sum(map(len, found)),
        "pictures": len(found),
        "pictures_with_findings": sum(map(bool, found)),
        "threshold": settings.threshold,
        "classes": list(settings.classes),
        "images": [{"detections": [each.described() for each in one]} for one in found],
    }


def report_text(found: Sequence[Sequence[Detection]], settings: CheckSettings) -> str:
    """`report` as JSON text."""
    return json.dumps(report(found, settings), allow_nan=False)


def summary(found: Sequence[Sequence[Detection]]) -> str:
    """What was found, in a line: "found in 2 of 9 pictures: FACE_FEMALE 0.72, FACE_MALE 0.40", each class with its highest score."""
    pictures = counted(len(found), "picture")
    if not any(found):
        return f"nothing found in {pictures}"
    highest: dict[str, float] = {}
    for each in (each for one in found for each in one):
        highest[each.label] = max(each.score, highest.get(each.label, 0.0))
    classes = ", ".join(f"{label} {score:.2f}" for label, score in sorted(highest.items(), key=lambda item: -item[1]))
    return f"found in {sum(map(bool, found))} of {pictures}: {classes}"
