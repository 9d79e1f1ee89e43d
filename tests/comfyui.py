"""Where a real ComfyUI is, for the tests that need one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


def comfyui() -> tuple[Path, Path]:
    """(folder, its Python): COMFYUI_PATH or ~/comfy/ComfyUI, COMFYUI_PYTHON or that folder's .venv; skips the test without one."""
    root = Path(os.environ.get("COMFYUI_PATH", Path.home() / "comfy/ComfyUI"))
    python = Path(os.environ.get("COMFYUI_PYTHON", root / ".venv/bin/python"))
    if not ((root / "main.py").exists() and python.exists()):
        pytest.skip(f"no ComfyUI at {root} with a Python at {python}; set COMFYUI_PATH and COMFYUI_PYTHON")
    return root, python
