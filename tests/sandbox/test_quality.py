"""The shipped model paints what it is asked for, by the judge, on seeds that nothing else uses."""

from __future__ import annotations

import pytest

from cad_engine.checkpoints.load import load_model
from cad_engine.sandbox.evaluation import paint
from cad_engine.sandbox.judge import Judge
from cad_engine.sandbox.quality import accuracies, quality_cases
from cad_engine.sandbox.world import RARE_SHAPE


@pytest.mark.slow
def test_quality() -> None:
    result = accuracies(paint(load_model("sandbox"), Judge.load(), quality_cases(repeats=1)))
    for part in ("shape", "colour", "style"):
        assert result[part]["overall"] >= 0.97, result
    assert 0.1 <= result["rare shape"][RARE_SHAPE] <= 0.4, result
