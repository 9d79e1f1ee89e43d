"""Pictures in folders: reading the images of a concept, writing generated ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from .errors import CadError, first_line
from .files import written_whole

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")


def read_images(folder: Path, height: int, width: int) -> Tensor:
    """All images of `folder` by name, [N, 3, height, width] in [0, 1].

    Each is turned upright, put on white where it is transparent, cropped at the centre and scaled.

    Raises CadError for a missing folder, one without images, or an image that cannot be read.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise CadError(f"there is no folder {folder}; --images takes a folder with pictures of the concept")
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise CadError(f"{folder} has no images ({', '.join(SUFFIXES)}); put pictures of the concept there")
    return torch.stack([_read(path, height, width) for path in paths])


def _read(path: Path, height: int, width: int) -> Tensor:
    try:
        with Image.open(path) as opened:
            upright = ImageOps.exif_transpose(opened).convert("RGBA")
            paper = Image.new("RGBA", upright.size, "white")
            image = ImageOps.fit(Image.alpha_composite(paper, upright).convert("RGB"), (width, height), Image.Resampling.LANCZOS)
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise CadError(f"cannot read the image {path} ({first_line(error)}); remove it or save it again") from error
    return torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1).float() / 255


def save_picture(path: Path, picture: Tensor) -> None:
    """Write `picture` [3, H, W] in [0, 1] as PNG; whole or not at all."""
    pixels = (picture.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
    with written_whole(path) as temporary:
        Image.fromarray(pixels).save(temporary, format="PNG")
