"""What is done with pictures in which something is found."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from cad_engine.errors import CadError
from cad_engine.safety.card import PAPER, card
from cad_engine.safety.check import CheckSettings, checked, report_text, summary
from cad_engine.safety.classes import CLASSES, PRESETS
from cad_engine.safety.cover import ACTIONS, AREAS, CELLS, Action, Area, covered, mask
from cad_engine.safety.detector import Detection, Detector, Pixels

FACES = CheckSettings(("FACE_FEMALE", "FACE_MALE"))
FACE = Detection("FACE_FEMALE", 0.72, (173, 82, 102, 98))
COVERING: tuple[Action, ...] = ("blur", "pixelate", "replace")


@pytest.fixture
def image(photo: Pixels) -> Tensor:
    """[512, 512, 3]."""
    return torch.from_numpy(photo.copy()).float() / 255


@pytest.fixture
def batch(image: Tensor) -> Tensor:
    """A sky, the face, and another sky."""
    sky = torch.full_like(image, 0.6)
    return torch.stack([sky, image, sky])


@pytest.mark.parametrize("area", AREAS)
@pytest.mark.parametrize("action", COVERING)
def test_a_covered_face_is_not_found_again(looking: Detector, batch: Tensor, action: Action, area: Area) -> None:
    result = checked(looking, batch, replace(FACES, action=action, area=area))
    assert [len(found) for found in result.found] == [0, 1, 0]
    assert torch.equal(result.images[0], batch[0])
    assert torch.equal(result.images[2], batch[2])
    rows, columns = result.found[1][0].region(512, 512)
    outside = torch.ones(512, 512, dtype=torch.bool)
    outside[rows, columns] = False
    same = (result.images[1] == batch[1]).all(-1)
    assert bool(same[outside].all()) == (area == "boxes")
    assert same[rows, columns].float().mean() < 0.05
    assert checked(looking, result.images, FACES).found == [[], [], []]
    assert 0 <= float(result.images.min()) <= float(result.images.max()) <= 1
    assert float(result.images[1].mean()) > 0.1  # never black


def test_what_came_in_is_not_changed(looking: Detector, batch: Tensor) -> None:
    before = batch.clone()
    for action in ACTIONS:
        checked(looking, batch, replace(FACES, action=action, area="boxes"))
    assert torch.equal(batch, before)


def test_pass_and_leave_out(looking: Detector, batch: Tensor) -> None:
    passed = checked(looking, batch, FACES)
    assert torch.equal(passed.images, batch)
    left = checked(looking, batch, replace(FACES, action="leave out"))
    assert torch.equal(left.images, batch[[0, 2]])
    assert left.found == passed.found
    assert torch.equal(left.masks, passed.masks)
    assert checked(looking, batch[1:2], replace(FACES, action="leave out")).images.shape == (0, 512, 512, 3)


def test_masks_are_the_boxes(looking: Detector, batch: Tensor) -> None:
    result = checked(looking, batch, FACES)
    assert result.masks.shape == (3, 512, 512)
    assert result.masks.sum((1, 2)).tolist() == [0, (102 + 2) * (98 + 2), 0]
    assert torch.equal(mask(result.found[1], 512, 512), result.masks[1])


def test_only_what_is_looked_for_counts(looking: Detector, image: Tensor) -> None:
    (score,) = [each.score for each in checked(looking, image[None], FACES).found[0]]
    for settings, count in (
        (CheckSettings(PRESETS["core"]), 0),
        (CheckSettings(PRESETS["paper"]), 0),
        (CheckSettings(CLASSES), 1),
        (replace(FACES, threshold=score - 0.01), 1),
        (replace(FACES, threshold=score + 0.01), 0),
        (replace(FACES, classes=("FACE_MALE",)), 0),
    ):
        assert len(checked(looking, image[None], settings).found[0]) == count


def test_four_channels_and_no_numbers(looking: Detector, image: Tensor) -> None:
    clear = torch.cat([image, torch.full((512, 512, 1), 0.25)], -1)[None]
    clear[0, 100, 200] = math.nan  # in the face
    for action in COVERING:
        result = checked(looking, clear, replace(FACES, action=action, area="boxes")).images[0]
        assert result.shape == (512, 512, 4)
        assert bool(result.isfinite().all())
        rows, columns = FACE.region(512, 512)
        assert bool((result[rows, columns, 3] == 1).all())
        assert float(result[0, 0, 3]) == 0.25


def test_an_empty_batch(looking: Detector) -> None:
    for action in ACTIONS:
        result = checked(looking, torch.zeros(0, 48, 64, 3), replace(FACES, action=action))
        assert (result.images.shape, result.masks.shape, result.found) == ((0, 48, 64, 3), (0, 48, 64), [])


@pytest.mark.parametrize("action", COVERING)
@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 300), (300, 1), (3, 2), (64, 64)])
def test_pictures_of_any_size_are_covered(action: Action, height: int, width: int) -> None:
    image = torch.rand(height, width, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float32)
    for area in AREAS:
        result = covered(image, [Detection("FACE_MALE", 0.5, (0, 0, width, height))], action, area)
        assert result.shape == image.shape
        assert float(result.min()) >= 0
        if action == "pixelate":
            assert len(result.reshape(-1, 3).unique(dim=0)) <= CELLS[area] ** 2
        if action == "replace":
            assert torch.equal(result, card(height, width))


def test_the_card_is_light_and_says_so_where_there_is_room() -> None:
    paper = np.array([int(PAPER[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    for size in ((64, 64), (512, 512), (30, 200), (3651, 5477)):
        picture = card(*size).numpy()
        written = (np.abs(picture - paper).max(-1) > 0.3).mean()
        assert 0.01 < written < 0.3, size
        assert not np.abs(picture[0] - paper).max() > 0.01, size  # nothing is cut off
        assert not np.abs(picture[:, 0] - paper).max() > 0.01, size
    for size in ((1, 1), (16, 16), (200, 20)):
        assert np.abs(card(*size).numpy() - paper).max() < 0.01


def test_the_report_is_json(looking: Detector, batch: Tensor) -> None:
    settings = replace(FACES, threshold=0.5)
    result = json.loads(report_text(checked(looking, batch, settings).found, settings))
    assert (result["found"], result["count"], result["pictures"], result["pictures_with_findings"]) == (True, 1, 3, 1)
    assert (result["threshold"], result["classes"]) == (0.5, ["FACE_FEMALE", "FACE_MALE"])
    first, second, third = (entry["detections"] for entry in result["images"])
    assert first == third == []
    (face,) = second
    assert (face["class"], face["box"]) == ("FACE_FEMALE", [173, 82, 102, 98])
    assert abs(face["score"] - 0.7203) < 1e-3


def test_the_summary_names_each_class_once() -> None:
    other = Detection("FACE_MALE", 0.3, (0, 0, 1, 1))
    assert summary([[FACE, other, replace(FACE, score=0.4)], []]) == "found in 1 of 2 pictures: FACE_FEMALE 0.72, FACE_MALE 0.30"
    assert summary([[FACE]]) == "found in 1 of 1 picture: FACE_FEMALE 0.72"
    assert summary([[]]) == "nothing found in 1 picture"
    assert summary([[], []]) == "nothing found in 2 pictures"


@pytest.mark.parametrize(
    ("settings", "about"),
    [
        (replace(FACES, threshold=0.2), "at least 0.25"),
        (replace(FACES, threshold=1.0), "below 1"),
        (replace(FACES, threshold=math.nan), "got nan"),
        (replace(FACES, action="black"), "got 'black'"),  # type: ignore[arg-type]
        (replace(FACES, area="some"), "got 'some'"),  # type: ignore[arg-type]
    ],
)
def test_what_makes_no_sense_is_refused(looking: Detector, image: Tensor, settings: CheckSettings, about: str) -> None:
    with pytest.raises(CadError, match=about):
        checked(looking, image[None], settings)
