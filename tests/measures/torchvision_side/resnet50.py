"""Run where torchvision is: makes a resnet50 of random weights in FOLDER, and what torchvision says of the pictures there."""

from __future__ import annotations

import sys
from copy import deepcopy
from pathlib import Path

import torch
from PIL import Image
from safetensors.torch import save_file
from torchvision.models import ResNet50_Weights, resnet50


def main(folder: Path) -> None:
    torch.manual_seed(0)
    model = resnet50(weights=None).eval()
    with torch.no_grad():
        for module in model.modules():  # statistics that are not those of an untrained model
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 1.5)
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_(0, 0.1)
    exact = deepcopy(model).double()  # two releases of torch on two machines agree in this far beyond float32
    answers = {}
    for weights in (ResNet50_Weights.IMAGENET1K_V1, ResNet50_Weights.IMAGENET1K_V2):
        prepare = weights.transforms()
        for path in sorted(folder.glob("*.png")):
            picture = prepare(Image.open(path))[None]
            answers[f"{weights.name} {path.stem} picture"] = picture
            with torch.no_grad():
                answers[f"{weights.name} {path.stem} logits"] = exact(picture.double())
    save_file(model.state_dict(), folder / "model.safetensors")
    save_file({name: answer.contiguous() for name, answer in answers.items()}, folder / "answers.safetensors")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
