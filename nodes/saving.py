"""What Save CAD Attribution and Save CAD Edit share: a name, a number where it is taken, and a line that says what was written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from comfy_api.latest import io

from ..cad_engine.errors import CadError
from .folders import destination, safe_name, shown_path
from .status import show


def inputs(what: str) -> list[io.Input]:
    """The inputs that say where to; `what` is the file's kind, and its name until another one is given."""
    return [
        io.String.Input(
            "name",
            default=what,
            tooltip="Name of the file, without folder and ending. Letters of any script, digits, spaces and - _ . ( ) + are allowed.",
        ),
        io.Boolean.Input(
            "overwrite",
            default=False,
            tooltip="Off: a name that is taken gets a number (name-2), and no file is ever lost. On: the file of that name is replaced.",
        ),
    ]


def name_refusal(name: str | None) -> bool | str:
    """For validate_inputs: an unsafe name is refused before anything is computed. None is a name that another node has yet to give."""
    if name is not None:
        try:
            safe_name(name)
        except CadError as error:
            return str(error)
    return True


def saved(node: type[io.ComfyNode], folder: str, name: str, overwrite: bool, write: Callable[[Path], None]) -> dict[str, Any]:
    """Let `write` write the file; `node` shows its path and size. Returns the same for the front end: {"cad_file": [{name, bytes}]}."""
    with destination(folder, name, overwrite=overwrite) as path:
        write(path)
    size = path.stat().st_size
    show(node, f"{shown_path(path)}, {size_text(size)}")
    return {"cad_file": [{"name": path.name, "folder": folder, "bytes": size}]}


def size_text(size: int) -> str:
    """`size` in bytes for people: "812 bytes", "340 kB", "38.2 MB"."""
    if size < 1000:
        return f"{size} bytes"
    return f"{size / 1000:.0f} kB" if size < 1e6 else f"{size / 1e6:.1f} MB"
