"""A photograph of a face, which everybody may use, and NudeNet."""

from __future__ import annotations

import numpy as np
import pytest

from cad_engine.safety.detector import Detector, Pixels, detector


@pytest.fixture(scope="session")
def looking() -> Detector:
    """The detector; without NudeNet, whose licence not everybody can accept, the tests of it are skipped."""
    pytest.importorskip("nudenet", reason="NudeNet is not installed; the extra 'safety' brings it")
    return detector()


@pytest.fixture(scope="session")
def photo() -> Pixels:
    """NASA's portrait of the astronaut Eileen Collins, 512 x 512; it is in the public domain."""
    data = pytest.importorskip("skimage.data", reason="scikit-image is not installed; the extra 'test' brings it")
    return np.asarray(data.astronaut())
