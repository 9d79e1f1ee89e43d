"""Attribution in ComfyUI's own classes equals plain autograd on the effective weights, whatever the storage, patches and offloading."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.comfyui import comfyui

FAMILIES = ("sd1", "sd2_v", "sdxl", "inpainting")
STORAGE = ("fp32", "fp16", "bf16", "fp8")

pytestmark = [pytest.mark.comfyui, pytest.mark.slow]


@pytest.fixture(scope="module")
def errors() -> dict[str, float]:
    """Largest relative error over the layers, by case; all cases in one process of ComfyUI's Python."""
    root, python = comfyui()
    script = Path(__file__).parent / "comfyui_side/gradients.py"
    done = subprocess.run([str(python), str(script)], env={**os.environ, "PYTHONPATH": str(root)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    answer: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return answer


@pytest.mark.parametrize(
    "case", [" ".join(parts) for parts in itertools.product(FAMILIES, STORAGE, ("plain", "lora"), ("loaded", "offloaded"))]
)
def test_attribution_equals_plain_autograd_on_the_effective_weights(errors: dict[str, float], case: str) -> None:
    assert errors[case] < 2e-5
