"""The benchmark of the check compares the same pictures in every way."""

from __future__ import annotations

import numpy as np

from benchmarks.safety import WAYS, measured, pictures
from cad_engine.safety.detector import Detector, Pixels


def test_its_pictures_are_the_same_each_time_and_nudenet_agrees(looking: Detector, photo: Pixels) -> None:
    first, again = list(pictures(5, 96)), list(pictures(5, 96))
    assert all(np.array_equal(one, other) for one, other in zip(first, again, strict=True))
    assert len({one.tobytes() for one in first}) == 5
    found = measured(10, 256)
    assert found["same_as_nudenet"] == found["pictures"] == 10
    assert found["with_findings"] > 0
    assert found["pictures_a_second"].keys() == set(WAYS)
    assert all(speed > 0 for speed in found["pictures_a_second"].values())
