"""Figures and pictures as PNG, in memory and in files."""

from __future__ import annotations

import io
from pathlib import Path

from matplotlib.figure import Figure
from PIL.Image import Image

from ..files import written_whole


def png_bytes(picture: Figure | Image) -> bytes:
    """`picture` as the bytes of a PNG file, without the time and the software that made it: the same picture, the same bytes."""
    buffer = io.BytesIO()
    if isinstance(picture, Figure):
        picture.savefig(buffer, format="png", metadata={"Software": None})
    else:
        picture.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def save_png(picture: Figure | Image, path: Path) -> None:
    """Write `picture` to `path`, whole or not at all. Raises CadError when the place cannot be written."""
    data = png_bytes(picture)
    with written_whole(Path(path)) as temporary:
        temporary.write_bytes(data)
