"""Pictures in folders: reading the images of a concept, writing generated ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from .errors import CadError
from .files import written_whole

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")


def read_images(folder: Path, height: int, width: int) -> Tensor:
    """All images of `folder` by name, scaled to cover and cropped at the centre; [N, 3, height, width] in [0, 1].

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
            image = opened.convert("RGB")
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError) as error:
        raise CadError(f"cannot read the image {path} ({type(error).__name__}); remove it or save it again") from error
    scale = max(height / image.height, width / image.width)
    image = image.resize((max(width, round(image.width * scale)), max(height, round(image.height * scale))), Image.Resampling.LANCZOS)
    left, top = (image.width - width) // 2, (image.height - height) // 2
    image = image.crop((left, top, left + width, top + height))
    return torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1).float() / 255


def save_picture(path: Path, picture: Tensor) -> None:
    """Write `picture` [3, H, W] in [0, 1] as PNG; whole or not at all."""
    pixels = (picture.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
    with written_whole(path) as temporary:
        Image.fromarray(pixels).save(temporary, format="PNG")
