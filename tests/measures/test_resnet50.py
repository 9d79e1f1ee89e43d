"""timm's folders of a ResNet-50 give what torchvision's own class and transforms give with the same weights."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from cad_engine.errors import CadError
from cad_engine.measures.classifier import Classifier, ClassifierHits
from cad_engine.measures.resnet50 import TimmResNet50
from tests.comfyui import comfyui

# As timm publishes them for torchvision's two sets of weights.
_COMMON = {"fixed_input_size": False, "interpolation": "bilinear", "crop_mode": "center", "first_conv": "conv1", "classifier": "fc"}
_NORMAL = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225], "num_classes": 1000}
PREPARED = {
    "IMAGENET1K_V1": {**_COMMON, **_NORMAL, "input_size": [3, 224, 224], "crop_pct": 0.875},
    "IMAGENET1K_V2": {
        **_COMMON,
        **_NORMAL,
        "input_size": [3, 176, 176],
        "test_input_size": [3, 224, 224],
        "crop_pct": 0.875,
        "test_crop_pct": 0.965,
    },
}


def write_config(folder: Path, prepared: dict[str, Any], **changed: Any) -> None:
    config = {"architecture": "resnet50", "num_classes": 1000, "num_features": 2048, "pretrained_cfg": prepared, **changed}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("timm")
    rng = np.random.default_rng(0)
    for name, (width, height) in {"square": (512, 512), "wide": (333, 250), "small": (64, 90)}.items():
        coarse = Image.fromarray(rng.integers(0, 256, (9, 9, 3), dtype=np.uint8))
        coarse.resize((width, height), Image.Resampling.BICUBIC).save(folder / f"{name}.png")
    _, python = comfyui()
    script = Path(__file__).parent / "torchvision_side/resnet50.py"
    done = subprocess.run([str(python), str(script), str(folder)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.mark.comfyui
@pytest.mark.parametrize("weights", PREPARED)
def test_it_is_torchvisions(folder: Path, weights: str) -> None:
    write_config(folder, PREPARED[weights])
    timm, answers = TimmResNet50(folder), load_file(folder / "answers.safetensors")
    for path in sorted(folder.glob("*.png")):
        picture = timm.prepared([Image.open(path)])
        assert torch.equal(picture, answers[f"{weights} {path.stem} picture"])
        with torch.no_grad():
            logits = timm.model.eval().double()(pixel_values=picture.double()).logits
        torch.testing.assert_close(logits, answers[f"{weights} {path.stem} logits"], rtol=1e-9, atol=1e-9)


@pytest.mark.comfyui
def test_as_a_classifier_it_knows_imagenettes_classes(folder: Path) -> None:
    write_config(folder, PREPARED["IMAGENET1K_V2"])
    classifier, answers = Classifier(folder), load_file(folder / "answers.safetensors")
    pixels = torch.from_numpy(np.asarray(Image.open(folder / "square.png")).copy()).permute(2, 0, 1)[None] / 255
    top = int(answers["IMAGENET1K_V2 square logits"].argmax())
    assert classifier.top1(pixels).tolist() == [top]
    assert ClassifierHits(classifier, str(top)).values(pixels, [""]).tolist() == [1]
    assert ClassifierHits(classifier, str(top + 1 if top < 999 else 0)).values(pixels, [""]).tolist() == [0]
    found = [classifier.number(name) for name in ("chain saw", "French horn", "Parachute", "class 3")]
    assert found == [491, 566, 701, 3]


@pytest.mark.comfyui
def test_a_folder_that_does_not_fit_is_refused(folder: Path, tmp_path: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    write_config(tmp_path, PREPARED["IMAGENET1K_V1"])
    with pytest.raises(CadError, match=r"cannot be read as timm's resnet50 \(.*model.safetensors"):
        Classifier(tmp_path)
    short = {name: weight for name, weight in weights.items() if name != "layer4.2.conv3.weight"}
    save_file(short, tmp_path / "model.safetensors")
    with pytest.raises(CadError, match="cannot be read as timm's resnet50"):
        Classifier(tmp_path)
    save_file({name: weight for name, weight in weights.items() if "num_batches" not in name}, tmp_path / "model.safetensors")
    picture = torch.rand(1, 3, 64, 64)
    assert torch.equal(Classifier(tmp_path).top1(picture), Classifier(folder).top1(picture))


def test_another_of_timms_models_is_refused(tmp_path: Path) -> None:
    write_config(tmp_path, PREPARED["IMAGENET1K_V1"], architecture="resnet50d")
    with pytest.raises(CadError, match="'resnet50d', and of timm's models only resnet50 is read"):
        Classifier(tmp_path)
