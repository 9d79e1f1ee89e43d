"""The detections are NudeNet's own: of files and arrays, in any size, one by one and in batches."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from cad_engine.errors import CadError
from cad_engine.safety.classes import CLASSES
from cad_engine.safety.detector import BATCH, FLOOR, LARGEST_SIDE, Detection, Detector, Pixels, as_pixels

CROPS = (
    (0, 512, 0, 512),
    (40, 260, 100, 420),
    (0, 512, 130, 300),
    (60, 200, 0, 512),
    (70, 193, 160, 287),
    (81, 180, 173, 276),
    (300, 512, 0, 99),
)
"""Top, bottom, left, right of parts of the photograph: squares, wide ones, tall ones, and odd numbers."""


@pytest.fixture(scope="session")
def nudenet(looking: Detector) -> Any:
    """NudeNet by itself."""
    import nudenet

    return nudenet.NudeDetector()


def same(ours: list[Detection], theirs: list[dict[str, Any]]) -> bool:
    """Classes, order and boxes exactly, scores up to rounding."""
    return [(each.label, list(each.box)) for each in ours] == [(each["class"], each["box"]) for each in theirs] and np.allclose(
        [each.score for each in ours], [each["score"] for each in theirs], atol=1e-5
    )


def crops(photo: Pixels) -> list[Pixels]:
    return [photo[top:bottom, left:right] for top, bottom, left, right in CROPS]


def blue_first(picture: Pixels) -> Pixels:
    return np.ascontiguousarray(picture[..., ::-1])


def test_the_face_is_found_where_it_is(looking: Detector, photo: Pixels) -> None:
    (found,) = looking.detect([photo])[0]
    assert found.label == "FACE_FEMALE"
    assert 0.7 < found.score < 0.75
    left, top, width, height = found.box
    assert (165 < left < 180, 75 < top < 95, 265 < left + width < 285, 175 < top + height < 190) == (True,) * 4
    (mirrored,) = looking.detect([np.ascontiguousarray(photo[:, ::-1])])[0]
    assert abs(512 - mirrored.box[0] - mirrored.box[2] - left) < 8


def test_as_nudenet_finds_it_in_files_and_arrays(looking: Detector, nudenet: Any, photo: Pixels, tmp_path: Path) -> None:
    cases = crops(photo)
    found = 0
    for number, picture in enumerate(cases):
        path = tmp_path / f"{number}.png"
        Image.fromarray(picture).save(path)
        (ours,) = looking.detect([picture])
        assert same(ours, nudenet.detect(str(path)))
        assert same(ours, nudenet.detect(blue_first(picture)))
        found += len(ours)
    assert found >= 5


def test_the_order_of_the_channels_matters(looking: Detector, photo: Pixels) -> None:
    """So that the test above would tell."""
    (one,), (other,) = looking.detect([photo, blue_first(photo)])
    assert abs(one.score - other.score) > 0.05


@pytest.mark.parametrize("size", [(512, 512), (300, 200), (123, 641)])
def test_boxes_and_overlaps_are_nudenets(looking: Detector, nudenet: Any, size: tuple[int, int]) -> None:
    """On made-up outputs of the model, with dozens and hundreds of candidates on top of each other and over the edges."""
    from nudenet import nudenet as inside

    height, width = size
    side = max(size)
    generator = np.random.default_rng(0)
    for busy in (0.02, 0.2):
        output = np.zeros((4 + len(CLASSES), 2100), np.float32)
        output[:2] = generator.uniform(-10, 330, (2, 2100))
        output[2:4] = generator.uniform(0, 150, (2, 2100))
        output[4:] = generator.uniform(0, 1, (len(CLASSES), 2100)) * (generator.uniform(0, 1, 2100) < busy)
        output[4:, ::50] *= 0.3
        theirs = inside._postprocess([output[None]], side - width, side - height, 1.0, 1.0, width, height, 320, 320)
        assert 2 <= len(theirs) < (output[4:].max(0) > FLOOR).sum()  # some overlap and go
        assert same(looking._read(output, size), theirs)


def test_a_batch_is_one_by_one(looking: Detector, photo: Pixels) -> None:
    pictures = [*crops(photo), np.zeros((64, 64, 3), np.uint8)] * 3
    assert len(pictures) > BATCH
    alone = [looking.detect([picture])[0] for picture in pictures]
    together = looking.detect(pictures)
    for ours, theirs in zip(together, alone, strict=True):
        assert [(each.label, each.box) for each in ours] == [(each.label, each.box) for each in theirs]
        assert np.allclose([each.score for each in ours], [each.score for each in theirs], atol=1e-5)


def test_progress_ends_at_the_number_of_pictures(looking: Detector, photo: Pixels) -> None:
    seen: list[tuple[int, int]] = []
    looking.detect([photo] * (BATCH + 1), lambda stage, done, total: seen.append((done, total)))
    assert seen == [(0, BATCH + 1), (BATCH, BATCH + 1), (BATCH + 1, BATCH + 1)]


def test_numbers_in_0_and_1_are_the_same_picture(looking: Detector, photo: Pixels) -> None:
    image = torch.from_numpy(photo.copy()).float()[None] / 255
    assert np.array_equal(as_pixels(image[0]), photo)
    assert looking.detect(image) == looking.detect([photo])
    half = looking.detect(image.half())
    assert half[0][0].label == "FACE_FEMALE"


def test_transparency_is_not_looked_at(looking: Detector, photo: Pixels) -> None:
    hidden = np.dstack([photo, np.zeros(photo.shape[:2], np.uint8)])
    assert looking.detect([hidden]) == looking.detect([photo])


def test_what_is_no_number_is_black(looking: Detector, photo: Pixels) -> None:
    image = torch.from_numpy(photo.copy()).float()[None] / 255
    image[0, :40] = float("nan")
    image[0, 40:50, :, 0] = float("inf")
    image[0, 40:50, :, 1:] = float("-inf")
    black = photo.copy()
    black[:40] = 0
    black[40:50] = (255, 0, 0)
    assert looking.detect(image) == looking.detect([black])


def test_one_pixel_and_twenty_million(looking: Detector, photo: Pixels) -> None:
    small = np.zeros((1, 1, 3), np.uint8)
    large = np.asarray(Image.fromarray(photo[:341]).resize((5477, 3651), Image.Resampling.BICUBIC))
    nothing, (face,) = looking.detect([small, large])
    assert nothing == []
    assert face.label == "FACE_FEMALE"
    scale = 5477 / 512
    assert all(abs(got / scale - there) < 15 for got, there in zip(face.box, (173, 82, 102, 98), strict=True))


def test_an_empty_batch_has_nothing(looking: Detector) -> None:
    assert looking.detect(torch.zeros(0, 64, 64, 3)) == []
    assert looking.detect([]) == []


@pytest.mark.parametrize(
    ("shape", "about"),
    [
        ((64, 64, 1), "3 or 4 channels"),
        ((64, 64), "[64, 64]"),
        ((0, 64, 3), "64 x 0"),
        ((1, LARGEST_SIDE + 1, 3), f"{LARGEST_SIDE + 1} x 1"),
    ],
)
def test_other_shapes_are_refused(looking: Detector, shape: tuple[int, ...], about: str) -> None:
    with pytest.raises(CadError, match="must ") as caught:
        looking.detect([np.zeros(shape, np.uint8)])
    assert about in str(caught.value)


def test_the_region_holds_the_box_and_stays_in_the_picture() -> None:
    def region(*box: int) -> tuple[slice, slice]:
        return Detection("FACE_MALE", 0.5, box).region(30, 20)  # type: ignore[arg-type]

    assert region(2, 3, 4, 5) == (slice(3, 10), slice(2, 8))
    assert region(0, 0, 0, 0) == (slice(0, 2), slice(0, 2))
    assert region(20, 30, 0, 0) == (slice(29, 30), slice(19, 20))
    assert region(15, 25, 99, 99) == (slice(25, 30), slice(15, 20))


ALONE = """
import sys
import skimage.data
def refuse(event, arguments):
    assert event not in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname"), (event, arguments)
sys.addaudithook(refuse)
from cad_engine.safety.detector import detector
print(detector().detect([skimage.data.astronaut()])[0][0].label)
"""


def test_nothing_is_downloaded_and_nothing_is_sent(looking: Detector, tmp_path: Path) -> None:
    """ONNX Runtime keeps what it is about to send in the user's cache folder, with a number for the device."""
    pytest.importorskip("skimage")
    kept = ("HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME", "TMPDIR", "USERPROFILE", "LOCALAPPDATA")
    without = {name: value for name, value in os.environ.items() if name not in ("CI", "ORT_DISABLE_TELEMETRY")}
    environment = {**without, **dict.fromkeys(kept, str(tmp_path)), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([sys.executable, "-c", ALONE], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["FACE_FEMALE"]
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()] == []


WITHOUT = """
import sys
sys.modules["nudenet"] = None
from cad_engine.errors import CadError
from cad_engine.safety.check import checked
from cad_engine.safety.detector import detector
assert not {"cv2", "onnxruntime"} & sys.modules.keys()
try:
    detector()
except CadError as error:
    print(error)
"""


def test_without_nudenet_it_says_what_to_install() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True, check=True)
    (line,) = done.stdout.splitlines()
    assert f'"{sys.executable}" -m pip install "nudenet>=3.4.2,<3.5"' in line
    assert "AGPL-3.0" in line
