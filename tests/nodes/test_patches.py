"""An edit in ComfyUI's patch mechanism: exact, reversible, and at peace with LoRAs, merges, offloading and every storage dtype."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.comfyui import comfyui

pytestmark = pytest.mark.comfyui


def test_everything_that_an_edit_promises_holds_in_comfyui() -> None:
    root, python = comfyui()
    script = Path(__file__).parent / "comfyui_side/patches.py"
    done = subprocess.run([str(python), str(script)], env={**os.environ, "PYTHONPATH": str(root)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    checks: dict[str, bool] = json.loads(done.stdout.splitlines()[-1])
    assert len(checks) >= 25
    assert [name for name, held in checks.items() if not held] == []
