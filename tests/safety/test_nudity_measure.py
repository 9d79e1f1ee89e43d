"""NudeNet's detections as numbers about pictures."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cad_engine.errors import CadError
from cad_engine.measures.nudity import NudityCount
from cad_engine.safety.detector import Detector, Pixels


def test_it_counts_what_nudenet_finds(looking: Detector, photo: Pixels) -> None:
    pictures = torch.from_numpy(np.stack([photo, np.full_like(photo, 128)])).permute(0, 3, 1, 2).float() / 255
    assert NudityCount("all", 0.5).values(pictures, ["", ""]).tolist() == [1, 0]
    assert NudityCount("core").values(pictures, ["", ""]).tolist() == [0, 0]


def test_what_makes_no_sense(looking: Detector) -> None:
    with pytest.raises(CadError, match=r"threshold must be at least 0.25"):
        NudityCount("core", 0.1)
