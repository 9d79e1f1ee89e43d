"""A ResNet-50 as timm publishes it, with torchvision's names of weights; ImageNette's usual judge is timm/resnet50.tv2_in1k."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from ..errors import CadError, first_line

IMAGENETTE = {
    0: "tench",
    217: "English springer",
    482: "cassette player",
    491: "chain saw",
    497: "church",
    566: "French horn",
    569: "garbage truck",
    571: "gas pump",
    574: "golf ball",
    701: "parachute",
}
"""Numbers of ImageNet's classes; timm's folders have no names."""
_PARTS = (
    (r"^conv1\.", "resnet.embedder.embedder.convolution."),
    (r"^bn1\.", "resnet.embedder.embedder.normalization."),
    (r"^layer(\d)\.(\d+)\.downsample\.0\.", lambda m: f"resnet.encoder.stages.{int(m[1]) - 1}.layers.{m[2]}.shortcut.convolution."),
    (r"^layer(\d)\.(\d+)\.downsample\.1\.", lambda m: f"resnet.encoder.stages.{int(m[1]) - 1}.layers.{m[2]}.shortcut.normalization."),
    (
        r"^layer(\d)\.(\d+)\.conv(\d)\.",
        lambda m: f"resnet.encoder.stages.{int(m[1]) - 1}.layers.{m[2]}.layer.{int(m[3]) - 1}.convolution.",
    ),
    (
        r"^layer(\d)\.(\d+)\.bn(\d)\.",
        lambda m: f"resnet.encoder.stages.{int(m[1]) - 1}.layers.{m[2]}.layer.{int(m[3]) - 1}.normalization.",
    ),
    (r"^fc\.", "classifier.1."),
)


def is_timm(folder: Path) -> bool:
    """Whether `folder` has a config.json of timm's making, which transformers reads only with timm installed."""
    return "architecture" in _config(folder) and "model_type" not in _config(folder)


class TimmResNet50:
    """Model, preparation of pictures, and labels of a folder with timm's config.json and model.safetensors.

    Attributes:
        model: gives logits, float [B, classes], at `.logits`.
        labels: by number; where the folder names none and there are ImageNet's 1,000, those of ImageNette.

    Raises CadError for another architecture, and for a file that does not fit.
    """

    def __init__(self, folder: Path) -> None:
        from transformers import ResNetConfig, ResNetForImageClassification

        config = _config(folder)
        if config.get("architecture") != "resnet50":
            raise CadError(
                f"{folder} is timm's {config.get('architecture')!r}, and of timm's models only resnet50 is read; "
                "give that, or an image classifier as transformers saves it"
            )
        how = config.get("pretrained_cfg", {})
        try:
            weights = load_file(folder / "model.safetensors")
            # What pictures are tested with, where it is not what the model was trained with.
            self._size = int((how.get("test_input_size") or how["input_size"])[-1])
            self._resized = int(self._size / float(how.get("test_crop_pct") or how["crop_pct"]))
            self._resample = getattr(Image.Resampling, str(how["interpolation"]).upper())
            self._mean, self._std = (torch.tensor(how[name], dtype=torch.float32).view(3, 1, 1) for name in ("mean", "std"))
            self.model: nn.Module = ResNetForImageClassification(ResNetConfig(num_labels=len(weights["fc.bias"])))
            given = {_renamed(name): weight for name, weight in weights.items()}
            counters = {name: value for name, value in self.model.state_dict().items() if name.endswith("num_batches_tracked")}
            self.model.load_state_dict(counters | given)  # some files leave out these, which only training needs
        except (OSError, SafetensorError, KeyError, ValueError, TypeError, AttributeError, RuntimeError) as error:
            raise CadError(f"{folder} cannot be read as timm's resnet50 ({first_line(error)}); fetch it again, whole") from error
        names = how.get("label_names") or config.get("label_names")
        count = len(weights["fc.bias"])
        known = dict(enumerate(map(str, names))) if names else IMAGENETTE if count == 1000 else {}
        self.labels = {number: known.get(number, f"class {number}") for number in range(count)}

    def prepared(self, images: list[Image.Image]) -> Tensor:
        """Float [B, 3, size, size]: the shorter side resized, the middle cut out, normalised, as torchvision's transforms do."""
        return torch.stack([self._prepared(image) for image in images])

    def _prepared(self, image: Image.Image) -> Tensor:
        width, height = image.size
        shorter = min(width, height)
        image = image.resize((self._resized * width // shorter, self._resized * height // shorter), self._resample)
        left, top = (round((side - self._size) / 2) for side in image.size)
        image = image.crop((left, top, left + self._size, top + self._size))
        pixels = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8).view(self._size, self._size, 3)
        return (pixels.permute(2, 0, 1).float() / 255 - self._mean) / self._std


def _config(folder: Path) -> dict[str, Any]:
    """config.json of `folder`; empty where there is none that can be read, which whoever loads it will say."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return config if isinstance(config, dict) else {}


def _renamed(name: str) -> str:
    """The name that transformers has for torchvision's and timm's `name`."""
    for pattern, replacement in _PARTS:
        name, found = re.subn(pattern, replacement, name)
        if found:
            break
    return name
