"""Where a real ComfyUI is, for the tests that need one."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest


def comfyui() -> tuple[Path, Path]:
    """(folder, its Python): COMFYUI_PATH or ~/comfy/ComfyUI, COMFYUI_PYTHON or that folder's .venv; skips the test without one."""
    root = Path(os.environ.get("COMFYUI_PATH", Path.home() / "comfy/ComfyUI"))
    python = Path(os.environ.get("COMFYUI_PYTHON", root / ".venv/bin/python"))
    if not ((root / "main.py").exists() and python.exists()):
        pytest.skip(f"no ComfyUI at {root} with a Python at {python}; set COMFYUI_PATH and COMFYUI_PYTHON")
    return root, python


def skip_without_nudenet() -> None:
    """Skip the test where ComfyUI's Python has no NudeNet."""
    _, python = comfyui()
    code = "import importlib.util, sys; sys.exit(importlib.util.find_spec('nudenet') is None)"
    environment = {**os.environ, "PYTHONPATH": os.environ.get("COMFYUI_PYTHONPATH", "")}
    if subprocess.run([python, "-c", code], env=environment, check=False).returncode:
        pytest.skip(f'no NudeNet in ComfyUI; "{python}" -m pip install "nudenet>=3.4.2,<3.5"')
