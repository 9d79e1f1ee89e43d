"""Pictures from files of every kind."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cad_engine.errors import CadError
from cad_engine.images import read_images, read_pixels


def test_sixteen_bits_of_grey_are_not_white(tmp_path: Path) -> None:
    grey = np.linspace(0, 255, 64 * 64).reshape(64, 64).astype(np.uint8)
    for name, picture in (("eight", grey), ("sixteen", grey.astype(np.uint16) * 257)):
        (tmp_path / name).mkdir()
        Image.fromarray(picture).save(tmp_path / name / "a.png")
    eight, sixteen = (read_images(tmp_path / name, 64, 64) for name in ("eight", "sixteen"))
    assert torch.equal(eight, sixteen)
    assert np.array_equal(read_pixels(tmp_path / "sixteen" / "a.png"), np.dstack([grey] * 3))


def test_thirty_two_bits_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.full((8, 8), 0.5, np.float32)).save(tmp_path / "a.tiff")
    with pytest.raises(CadError, match="32 bits a pixel"):
        read_pixels(tmp_path / "a.tiff")


def test_photographs_of_phones_bring_previews(tmp_path: Path) -> None:
    picture, preview = Image.new("RGB", (40, 20), "red"), Image.new("RGB", (20, 10), "blue")
    picture.save(tmp_path / "a.jpg", format="MPO", save_all=True, append_images=[preview])
    pixels = read_pixels(tmp_path / "a.jpg")
    assert pixels.shape == (20, 40, 3)
    assert pixels[..., 0].min() > 240
    preview.save(tmp_path / "b.png", save_all=True, append_images=[picture.resize((20, 10))])
    with pytest.raises(CadError, match="has 2 pictures"):
        read_pixels(tmp_path / "b.png")
