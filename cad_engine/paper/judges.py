"""What gives each picture of a table its number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor

from ..measures.measure import Measure
from .prompts import Case


class Distance(Protocol):
    """How far pictures are from others, see measures.lpips."""

    name: str

    def distances(self, pictures: Tensor, others: Tensor) -> Tensor: ...


class PictureJudge(Protocol):
    """One number a picture.

    Attributes:
        name: what the results say of it.
        beside_unedited: whether it needs the unedited model's picture of the same case, and so says nothing of that model itself.
    """

    name: str
    beside_unedited: bool

    def values(self, pictures: Tensor, cases: Sequence[Case], unedited: Tensor | None) -> Tensor:
        """Float [B] for `pictures` [B, 3, H, W] in [0, 1]."""
        ...


class ByMeasure:
    """The same measure for every picture; `by` names the files that it works with."""

    beside_unedited = False

    def __init__(self, measure: Measure, by: str = "") -> None:
        self._measure, self.name = measure, f"{measure.name}{f', by {by}' if by else ''}"

    def values(self, pictures: Tensor, cases: Sequence[Case], unedited: Tensor | None) -> Tensor:
        """See PictureJudge.values."""
        return self._measure.values(pictures, [case.prompt for case in cases])


class ByGroup:
    """For each picture the measure of its class."""

    beside_unedited = False

    def __init__(self, name: str, measures: Mapping[str, Measure]) -> None:
        self.name, self._measures = name, measures

    def values(self, pictures: Tensor, cases: Sequence[Case], unedited: Tensor | None) -> Tensor:
        """See PictureJudge.values."""
        found = torch.zeros(len(pictures))
        for group in {case.group for case in cases}:
            mine = [number for number, case in enumerate(cases) if case.group == group]
            found[mine] = self._measures[group].values(pictures[mine], [cases[number].prompt for number in mine])
        return found


class FromUnedited:
    """How far a picture is from the unedited model's."""

    beside_unedited = True

    def __init__(self, distance: Distance, by: str = "") -> None:
        self._distance, self.name = distance, f"{distance.name}{f', by {by}' if by else ''}"

    def values(self, pictures: Tensor, cases: Sequence[Case], unedited: Tensor | None) -> Tensor:
        """See PictureJudge.values."""
        assert unedited is not None
        return self._distance.distances(pictures, unedited)
