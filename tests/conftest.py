"""Markers, and where a real ComfyUI is found."""

from __future__ import annotations

import pytest


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "comfyui: needs a ComfyUI at COMFYUI_PATH or ~/comfy/ComfyUI")
    config.addinivalue_line("markers", "browser: needs a Chromium")
    config.addinivalue_line("markers", "slow: takes more than half a minute")
