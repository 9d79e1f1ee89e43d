"""Making a part of a picture unrecognisable: blurred, in large squares, or replaced by a card that says so."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional

from .card import card
from .detector import Detection

Action = Literal["pass", "blur", "pixelate", "replace", "leave out"]
ACTIONS: tuple[Action, ...] = get_args(Action)

Area = Literal["boxes", "whole"]
AREAS: tuple[Area, ...] = get_args(Area)

CELLS: dict[Area, int] = {"boxes": 4, "whole": 12}
"""What is left of a blurred or pixelated part: the mean colours of so many cells along its longer side."""


def covered(image: Tensor, found: Iterable[Detection], action: Action, area: Area) -> Tensor:
    """A copy of `image` [H, W, C] in which what was found is covered; as it is where `action` is "pass" or "leave out".

    A fourth channel becomes opaque where something is covered, and what is no number becomes black.
    """
    found = list(found)
    if action in ("pass", "leave out") or not found:
        return image.clone()
    height, width = image.shape[:2]
    regions = [(slice(None), slice(None))] if area == "whole" else [each.region(height, width) for each in found]
    result = image.clone()
    for rows, columns in regions:
        part = image[rows, columns, :3].float().nan_to_num(0.0, 1.0, 0.0).clamp(0, 1)
        result[rows, columns, :3] = _changed(part, action, CELLS[area]).to(image)
        result[rows, columns, 3:] = 1
    return result


def _changed(part: Tensor, action: Action, cells: int) -> Tensor:
    """A part [H, W, 3] as `action` makes it."""
    height, width = part.shape[:2]
    if action == "replace":
        return card(height, width)
    longer = max(height, width)
    size = max(1, round(min(cells, longer) * height / longer)), max(1, round(min(cells, longer) * width / longer))
    means = functional.interpolate(part.permute(2, 0, 1)[None], size=size, mode="area")
    if action == "blur":
        large = functional.interpolate(means, size=(height, width), mode="bicubic", align_corners=False).clamp(0, 1)
    else:
        large = functional.interpolate(means, size=(height, width), mode="nearest")
    return large[0].permute(1, 2, 0)


def mask(found: Iterable[Detection], height: int, width: int) -> Tensor:
    """1 inside of the boxes and 0 outside, float [H, W]."""
    result = torch.zeros(height, width)
    for each in found:
        result[each.region(height, width)] = 1
    return result
