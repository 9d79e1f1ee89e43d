"""NudeNet's detector: which parts of people are where in pictures.

NudeNet 3.4 brings its model with it, 12 MB for 320 x 320 pixels; nothing is downloaded. This file prepares pictures and reads the model's
outputs as NudeNet does, so that the results are NudeNet's own (a test compares them), but a batch at a time and without its loop over
all 2,100 candidates of each picture:

- a picture is padded to a square at its right and lower edge, in black, and scaled to 320 x 320 without smoothing;
- its channels go in as blue, green, red;
- a candidate counts as its likeliest class, and only above a score of 0.25;
- of candidates that overlap by more than 0.45 of their union the one with the highest score stays, whatever the classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sized
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ..errors import CadError
from ..progress import Progress, silent
from .classes import CLASSES
from .package import load_nudenet

FLOOR = 0.25
"""NudeNet reports nothing at or below this score."""
BATCH = 8
LARGEST_SIDE = 16384
"""Pixels, as in ComfyUI. A picture is padded to a square of its longer side, which would take 805 MB here and more beyond."""

_INPUT, _OVERLAP = 320, 0.45

Pixels = NDArray[np.uint8]
"""A picture [H, W, 3 or 4], red first; a fourth channel is not looked at."""


@dataclass(frozen=True)
class Detection:
    """Something that was found in a picture.

    Attributes:
        label: one of CLASSES.
        score: above FLOOR, at most 1.
        box: left, top, width, height in pixels of the picture, as NudeNet rounds them: down.
    """

    label: str
    score: float
    box: tuple[int, int, int, int]

    def region(self, height: int, width: int) -> tuple[slice, slice]:
        """Rows and columns of a picture of this size that surely hold the box before it was rounded; at least one pixel."""
        left, top, box_width, box_height = self.box
        left, top = min(left, width - 1), min(top, height - 1)
        return slice(top, min(top + box_height + 2, height)), slice(left, min(left + box_width + 2, width))

    def described(self) -> dict[str, Any]:
        """As JSON has it."""
        return {"class": self.label, "score": round(self.score, 4), "box": list(self.box)}


def as_pixels(image: Tensor) -> Pixels:
    """A picture [H, W, C] of numbers in [0, 1] as ComfyUI saves it: in 256 steps, rounded down. What is no number counts as black."""
    return image.detach().float().nan_to_num(0.0, 1.0, 0.0).clamp_(0, 1).mul_(255).byte().cpu().numpy()


class Detector:
    """NudeNet's model, loaded; to be had from `detector()`.

    Raises CadError when NudeNet is not installed, and says how to install it.
    """

    def __init__(self) -> None:
        nudenet, self._cv2 = load_nudenet()
        self._session = nudenet.NudeDetector().onnx_session
        (entry,) = self._session.get_inputs()
        self._input = entry.name

    def detect(self, pictures: Tensor | Iterable[Pixels], progress: Progress = silent) -> list[list[Detection]]:
        """What is found in each picture, the surest first; BATCH pictures at a time go through the model.

        Args:
            pictures: float [B, H, W, C] in [0, 1], 3 or 4 channels, as ComfyUI's IMAGE; or uint8 arrays of any sizes.

        Raises:
            CadError: for a picture of another shape, an empty one, or one with a side above LARGEST_SIDE.
        """
        total = len(pictures) if isinstance(pictures, Sized) else 0
        left, found = iter(pictures), list[list[Detection]]()
        progress("check", 0, total)
        while batch := list(islice(_prepared(self._cv2, left), BATCH)):
            (outputs,) = self._session.run(None, {self._input: np.stack([blob for blob, _ in batch])})
            found += [self._read(output, size) for output, (_, size) in zip(outputs, batch, strict=True)]
            progress("check", len(found), total)
        return found

    def _read(self, output: NDArray[np.float32], size: tuple[int, int]) -> list[Detection]:
        """What the model's output [4 + classes, candidates] says of a picture of this height and width."""
        height, width = size
        best = output[4:].max(0)
        likely = np.flatnonzero(best > FLOOR)
        scores, classes = best[likely], output[4:, likely].argmax(0)
        middle, extent = output[:2, likely], output[2:4, likely]
        scale = np.float32(max(height, width))
        corner = (middle - extent / 2) * scale / _INPUT
        extent = extent * scale / _INPUT
        edges = np.array([[width], [height]], dtype=np.float32)
        corner = corner.clip(0, edges)
        boxes = np.concatenate([corner, np.minimum(extent, edges - corner)]).T
        kept = self._cv2.dnn.NMSBoxes(boxes.tolist(), scores.tolist(), FLOOR, _OVERLAP)
        return [
            Detection(CLASSES[classes[i]], float(scores[i]), (int(boxes[i, 0]), int(boxes[i, 1]), int(boxes[i, 2]), int(boxes[i, 3])))
            for i in np.asarray(kept, dtype=int).flatten()
        ]


def _prepared(cv2: Any, pictures: Iterator[Tensor | Pixels]) -> Iterator[tuple[NDArray[np.float32], tuple[int, int]]]:
    """Each picture as the model takes it, [3, 320, 320], and its height and width."""
    for picture in pictures:
        shape = tuple(picture.shape)
        if len(shape) != 3 or shape[2] not in (3, 4):
            raise CadError(f"a picture must be [height, width, 3 or 4 channels], got {list(shape)}; give it colours")
        height, width = shape[:2]
        if not (0 < height <= LARGEST_SIDE and 0 < width <= LARGEST_SIDE):
            raise CadError(f"a picture must have sides of 1 to {LARGEST_SIDE} pixels, got {width} x {height}; scale it before the check")
        pixels = as_pixels(picture) if isinstance(picture, Tensor) else picture
        side = max(height, width)
        square = np.zeros((side, side, 3), np.uint8)
        square[:height, :width] = pixels[:, :, :3]
        small = cv2.resize(square, (_INPUT, _INPUT), interpolation=cv2.INTER_LINEAR)
        yield small[:, :, ::-1].transpose(2, 0, 1).astype(np.float32) / 255, (height, width)


@lru_cache(maxsize=1)
def detector() -> Detector:
    """The Detector, loaded at the first call and kept. Raises CadError when NudeNet is not installed."""
    return Detector()
