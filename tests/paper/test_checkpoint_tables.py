"""cad paper on a checkpoint, with published lists and the user's judges: all of them real, of little size and with random weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from transformers import (
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    CLIPProcessor,
    ConvNextImageProcessorPil,
    ResNetConfig,
    ResNetForImageClassification,
)

from cad_engine.checkpoints.load import load_model
from cad_engine.edit_file import load_edit
from cad_engine.measures.classifier import Classifier
from cad_engine.measures.lpips import CONVOLUTIONS, Lpips
from cad_engine.paper import checkpoint_tables
from cad_engine.safety.detector import Detector
from tests.checkpoints.tiny_checkpoints import make_tiny
from tests.test_cli import run

LABELS = {0: "tench, Tinca tinca", 1: "church, church building", 2: "golf ball", 3: "English springer, English springer spaniel"}
NAMES = ("tench", "church", "golf ball", "english springer")
ARTISTS = ("Van Gogh", "Rembrandt")


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The model, lists and judges by name."""
    folder = tmp_path_factory.mktemp("given")
    torch.manual_seed(0)
    classifier = ResNetForImageClassification(
        ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], num_labels=4, id2label=LABELS)
    )
    with torch.no_grad():
        classifier.classifier[1].weight.normal_(0, 5)
    classifier.save_pretrained(folder / "resnet")
    ConvNextImageProcessorPil(size={"shortest_edge": 32}, crop_pct=1.0).save_pretrained(folder / "resnet")
    tokenizer = load_model("sandbox").pipeline.tokenizer
    small = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {**small, "vocab_size": len(tokenizer), "max_position_embeddings": 24, "eos_token_id": tokenizer.eos_token_id}
    clip = CLIPConfig(text_config=text, vision_config={**small, "image_size": 32, "patch_size": 8}, projection_dim=12)
    CLIPModel(clip).save_pretrained(folder / "clip")
    processor = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    CLIPProcessor(processor, tokenizer).save_pretrained(folder / "clip")
    network, linear, before = {}, {}, 3
    for layer, (number, channels, kernel, _, _) in enumerate(CONVOLUTIONS):
        network[f"features.{number}.weight"] = torch.randn(channels, before, kernel, kernel) / (before * kernel * kernel) ** 0.5
        network[f"features.{number}.bias"] = torch.zeros(channels)
        linear[f"lin{layer}.model.1.weight"] = torch.rand(1, channels, 1, 1)
        before = channels
    save_file(network, folder / "alexnet.safetensors")
    torch.save(linear, folder / "alex.pth")
    classes = [f"{i},{i},Image of {name},{100 + i},{name}" for i, name in enumerate(NAMES)]
    artists = [f"{i},{i},Flowers by {name},{200 + i},{name}" for i, name in enumerate(ARTISTS * 2)]
    for name, lines in {
        "imagenette": [",case_number,prompt,evaluation_seed,class", *classes],
        "artists": [",case_number,prompt,evaluation_seed,artist", *artists],
        "coco": ["image_id,source,prompt,evaluation_seed", "1,coco-30k,A bicycle.,1", "2,coco-30k,A room with blue walls.,2"],
        "i2p": ["prompt,sd_seed,sd_guidance_scale", "a portrait,1,7.5", "a beach,2,3", "a girl on a beach,4,7.5", "a forest,3,7.5"],
        "mma": ["target_prompt,adv_prompt", "a,some words"],
    }.items():
        (folder / f"{name}.csv").write_text("\n".join(lines) + "\n")
    model = make_tiny("sd1").save(folder / "tiny.safetensors")
    return {"model": str(model), "folder": str(folder)}


@pytest.fixture
def arguments(given: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setattr(checkpoint_tables, "STEPS", 2)
    monkeypatch.setattr(checkpoint_tables, "ATTRIBUTION_STEPS", 1)
    folder = given["folder"]
    lists = [part for name in ("imagenette", "artists", "coco", "i2p", "mma") for part in ("--prompts", f"{name}={folder}/{name}.csv")]
    judges = [
        "--classifier",
        f"{folder}/resnet",
        "--clip",
        f"{folder}/clip",
        "--lpips",
        f"{folder}/alexnet.safetensors",
        f"{folder}/alex.pth",
    ]
    return ["paper", "--model", given["model"], *lists, *judges, "--width", "64", "--height", "64", "--ratio", "0.05", "--batch", "2"]


def tables(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[int, dict[str, Any]]:
    code, out, err = run(capsys, *arguments, "--json")
    assert code == 0, err
    return {one["table"]: one for one in json.loads(out)["tables"]}


def pictures(folder: Path) -> torch.Tensor:
    read = [torch.frombuffer(bytearray(Image.open(path).tobytes()), dtype=torch.uint8) for path in sorted(folder.iterdir())]
    return torch.stack(read).reshape(-1, 64, 64, 3).permute(0, 3, 1, 2).float() / 255


@pytest.mark.slow
def test_the_judged_tables(arguments: list[str], given: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    numbers = ["--table", "1", "--table", "3", "--table", "4", "--table", "5"]
    found = tables(capsys, *arguments, *numbers, "--concepts", "2", "--keep-pictures", "--out", str(tmp_path))
    assert all(one["stand_ins"] == [] for one in found.values())
    # The numbers once more, out of the kept pictures.
    classifier = Classifier(Path(given["folder"]) / "resnet")
    (first, *_) = rows = found[1]["rows"]
    assert [row["row"] for row in rows] == ["church", "english springer", "mean"]  # in the order of the paper's classes
    for arm, target, others in (("unedited", "target, unedited", "others, unedited"), ("church", "target", "others")):
        hits = classifier.top1(pictures(tmp_path / "table-1" / "pictures" / "imagenette" / arm)) == torch.arange(4)
        assert first["ours"][target] == 100 * float(hits[1])
        assert first["ours"][others] == pytest.approx(100 * float(hits[[0, 2, 3]].float().mean()))
    assert rows[-1]["paper"]["target"] == 1.6
    artists = tmp_path / "table-3" / "pictures" / "artists"
    distance = Lpips(Path(given["folder"]) / "alexnet.safetensors", Path(given["folder"]) / "alex.pth")
    apart = distance.distances(pictures(artists / "Van-Gogh"), pictures(artists / "unedited"))
    (van_gogh, *_) = found[3]["rows"]
    assert van_gogh["ours"]["target"] == pytest.approx(float(apart[[0, 2]].mean()), rel=1e-4)
    assert van_gogh["ours"]["others"] == pytest.approx(float(apart[[1, 3]].mean()), rel=1e-4)
    assert van_gogh["ours"]["target"] > 0
    assert found[4]["rows"][0]["paper"] == {"unedited": 31.32, "edited": 31.31}
    assert [row["row"] for row in found[5]["rows"]] == ["church", "tench"]
    kinds = {load_edit(path).info["objective"] for path in (tmp_path / "edits").iterdir()}
    assert kinds == {"erase", "amplify"}


@pytest.mark.slow
def test_the_counted_tables(arguments: list[str], looking: Detector, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = tables(capsys, *arguments, "--table", "2", "--table", "6", "--out", str(tmp_path))
    assert [(row["row"], row["pictures"], row["paper"]["edited"]) for row in found[2]["rows"]] == [("i2p", 3, 54), ("mma", 1, 235)]
    assert [row["row"] for row in found[6]["rows"]] == ["i2p"]
    said = "prompts of the list {} may be about minors, and were left out"
    of_i2p, of_mma = f"1 of 4 {said.format('i2p')}", f"0 of 1 {said.format('mma')}"
    assert (found[2]["stand_ins"], found[6]["stand_ins"]) == ([of_i2p, of_mma], [of_i2p])
    assert found[2]["judges"]["i2p"] == "NudeNet's detections (paper, above 0.5)"
    assert not list(tmp_path.rglob("*.png"))
    # Pictures of one guidance are painted together: two and one of I2P, one of MMA, each with and without the edit.
    assert len(list((tmp_path / "table-2" / "values").iterdir())) == 2 * (2 + 1)


def test_another_judge_is_another_run(
    arguments: list[str], given: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fourth = [*arguments, "--table", "4", "--pictures", "1", "--out", str(tmp_path)]
    assert run(capsys, *fourth)[0] == 0
    (Path(given["folder"]) / "clip" / "note.txt").write_text("another")
    code, _, err = run(capsys, *fourth)
    assert code == 2
    assert "is of a run with other settings: lists coco judge" in err


def test_foreign_classes_are_refused(
    arguments: list[str], given: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "classes.csv"
    path.write_text("prompt,evaluation_seed,class\na dog,1,dog\n")
    changed = [f"imagenette={path}" if part.startswith("imagenette=") else part for part in arguments]
    code, _, err = run(capsys, *changed, "--table", "1", "--out", str(tmp_path / "out"))
    assert code == 2
    assert "has the class 'dog', and ImageNette's are cassette player" in err
