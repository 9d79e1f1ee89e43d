"""The attack in ComfyUI's own classes equals plain PyTorch in float64, iteration by iteration, and leaves the model alone."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.comfyui import comfyui

pytestmark = [pytest.mark.comfyui]


def test_the_attack_in_comfyui_equals_plain_pytorch() -> None:
    root, python = comfyui()
    script = Path(__file__).parent / "comfyui_side/attack.py"
    done = subprocess.run([str(python), str(script)], env={**os.environ, "PYTHONPATH": str(root)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    answer: dict[str, tuple[float, float, float, bool]] = json.loads(done.stdout.splitlines()[-1])
    assert {name.split()[0] for name in answer} == {"sd1", "sd2_v", "sdxl", "inpainting"}
    for name, (loss_error, embedding_error, went, unchanged) in answer.items():
        assert unchanged, name
        assert went > 0.1, (name, went)  # it did go somewhere
        assert loss_error < 1e-4, (name, loss_error)
        assert embedding_error < 1e-4 * went, (name, embedding_error, went)
