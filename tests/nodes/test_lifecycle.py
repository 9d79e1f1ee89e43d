"""A run of the engine inside ComfyUI leaves nothing behind, however it ends; models that CAD cannot do are refused by name."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.comfyui import comfyui

pytestmark = [pytest.mark.comfyui, pytest.mark.slow]


def test_a_run_leaves_nothing_behind_and_other_models_are_refused() -> None:
    root, python = comfyui()
    script = Path(__file__).parent / "comfyui_side/lifecycle.py"
    done = subprocess.run([str(python), str(script)], env={**os.environ, "PYTHONPATH": str(root)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    checks: dict[str, bool] = json.loads(done.stdout.splitlines()[-1])
    assert len(checks) >= 62
    assert [name for name, held in checks.items() if not held] == []
