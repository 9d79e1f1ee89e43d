"""NudeNet, for the tables that count with it."""

from __future__ import annotations

import pytest

from cad_engine.safety.detector import Detector, detector


@pytest.fixture(scope="session")
def looking() -> Detector:
    """The detector; without NudeNet, whose licence not everybody can accept, the tests of it are skipped."""
    pytest.importorskip("nudenet", reason="NudeNet is not installed; the extra 'safety' brings it")
    return detector()
