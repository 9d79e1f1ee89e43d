"""NudeNet's import, where it is installed, with the messages switched off that its ONNX Runtime would send.

From 1.29 on, ONNX Runtime sends Microsoft what it runs and where (the model's name and hash, the device), on Linux and macOS by itself, on
Windows through the system. ORT_DISABLE_TELEMETRY switches this off when it is set before ONNX Runtime is imported, and then nothing is
kept on disk for it, either. Where another program part has imported ONNX Runtime before, only later messages can be stopped.
"""

from __future__ import annotations

import os
import sys
from typing import Any

from ..errors import CadError


def load_nudenet() -> tuple[Any, Any]:
    """The modules nudenet and cv2. Raises CadError, which says how to install NudeNet, when one of them is missing."""
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    try:
        import onnxruntime

        onnxruntime.disable_telemetry_events()
        import cv2
        import nudenet
    except ImportError as error:
        raise CadError(missing(error)) from error
    return nudenet, cv2


def missing(error: ImportError) -> str:
    """What to do when `error` came of importing NudeNet."""
    return (
        f"the check needs NudeNet 3.4, which is not installed or lacks something here ({error}); "
        f'install it with: "{sys.executable}" -m pip install "nudenet>=3.4.2,<3.5" (its licence is AGPL-3.0)'
    )
