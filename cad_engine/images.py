"""Pictures in folders: reading the images of a concept, writing generated ones."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
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


def read_pixels(path: Path) -> NDArray[np.uint8]:
    """A picture in its own size, [H, W, 3]: turned upright; its colours as they stand in the file, where it is transparent, too.

    Raises CadError for a file that cannot be read, and for one that has several pictures, of which only the first would be.
    """
    with _opened(Path(path)) as (file, picture):
        frames = getattr(file, "n_frames", 1)
        if frames > 1 and file.format != "MPO":  # which phones write: the photograph, and previews of it
            raise CadError(f"{path} has {frames} pictures, an animation or pages; give one file for each picture")
        return np.asarray(picture.convert("RGB")).copy()


def _read(path: Path, height: int, width: int) -> Tensor:
    with _opened(path) as (_, picture):
        colours = picture.convert("RGBA")
        paper = Image.new("RGBA", colours.size, "white")
        image = ImageOps.fit(Image.alpha_composite(paper, colours).convert("RGB"), (width, height), Image.Resampling.LANCZOS)
        return torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1).float() / 255


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Image.Image, Image.Image]]:
    """The file, and its picture turned upright with 8 bits a channel. Raises CadError when it cannot be read."""
    try:
        with Image.open(path) as opened:
            picture = ImageOps.exif_transpose(opened)
            # 16 bits of grey, which Pillow would cut off at 255: nearly all of it would be white. Its older versions call it I in a PNG.
            if picture.mode.startswith("I;16") or (picture.mode == "I" and opened.format == "PNG"):
                picture = Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
            elif picture.mode in ("I", "F"):
                raise CadError(f"{path} has 32 bits a pixel; save it with 8 bits a channel")
            yield opened, picture
    except CadError:
        raise
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise CadError(f"cannot read the image {path} ({first_line(error)}); remove it or save it again") from error


def save_picture(path: Path, picture: Tensor) -> None:
    """Write `picture` [3, H, W] in [0, 1] as PNG; whole or not at all."""
    pixels = (picture.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
    with written_whole(path) as temporary:
        Image.fromarray(pixels).save(temporary, format="PNG")
