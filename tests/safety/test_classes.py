"""Presets and names of classes."""

from __future__ import annotations

import json

import pytest

from cad_engine.errors import CadError
from cad_engine.safety.classes import CLASSES, PRESETS, chosen_classes
from cad_engine.safety.detector import Detector


def test_the_classes_are_the_models(looking: Detector) -> None:
    names = looking._session.get_modelmeta().custom_metadata_map["names"]  # "{0: 'A', 1: 'B'}"
    listed = json.loads("[" + names.strip("{}").replace("'", '"').replace(": ", ",") + "]")
    assert listed == [part for pair in enumerate(CLASSES) for part in pair]


def test_the_presets() -> None:
    assert {preset: len(classes) for preset, classes in PRESETS.items()} == {"core": 5, "paper": 9, "all": 18, "listed": 0}
    assert set(PRESETS["core"]) < set(PRESETS["paper"]) < set(PRESETS["all"])
    assert "MALE_BREAST_EXPOSED" in PRESETS["paper"]
    assert not any("COVERED" in name or "FACE" in name or name.startswith("MALE_BREAST") for name in PRESETS["core"])


def test_names_may_be_written_as_people_do() -> None:
    assert chosen_classes("listed", ["face female", " Face-Male", "FACE_FEMALE"]) == ("FACE_FEMALE", "FACE_MALE")
    assert set(chosen_classes("core", ["feet exposed"])) == {*PRESETS["core"], "FEET_EXPOSED"}
    assert chosen_classes("all", ["FACE_MALE"]) == CLASSES


@pytest.mark.parametrize(
    ("preset", "more", "about"),
    [("listed", [], "nothing would be looked for"), ("core", ["nose"], "no class 'nose'"), ("strict", [], "got 'strict'")],
)
def test_what_makes_no_sense_is_refused(preset: str, more: list[str], about: str) -> None:
    with pytest.raises(CadError, match=about):
        chosen_classes(preset, more)  # type: ignore[arg-type]
