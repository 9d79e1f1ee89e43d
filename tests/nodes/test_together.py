"""A batch whose samples have prompts of their own, in ComfyUI's own classes: the same as one sample after the other."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.comfyui import comfyui

FAMILIES = ("sd1", "sd2_v", "sdxl", "inpainting")

pytestmark = pytest.mark.comfyui


@pytest.fixture(scope="module")
def answer() -> dict[str, Any]:
    """What comfyui_side/together.py prints."""
    root, python = comfyui()
    script = Path(__file__).parent / "comfyui_side/together.py"
    environment = {**os.environ, "PYTHONPATH": str(root)}
    done = subprocess.run([str(python), str(script)], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("case", [" ".join(parts) for parts in itertools.product(FAMILIES, ("equal", "unlike"), ("1", "4"))])
def test_a_batch_of_prompts_is_the_prompts_one_by_one(answer: dict[str, Any], case: str) -> None:
    found = answer["errors"][case]
    assert found["eps"] < 1e-5
    assert found["gradients"] < 1e-5
    assert found["prompts"] > 100 * found["eps"]  # so that a mix-up could not pass


def test_prompts_with_a_schedule_are_refused(answer: dict[str, Any]) -> None:
    assert "take the hooks off the text encoder" in answer["refused"]
