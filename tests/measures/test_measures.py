"""Measures of pictures against the same computed apart, with real models of little size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import CLIPModel, CLIPProcessor, ConvNextImageProcessorPil, ResNetForImageClassification

from cad_engine.errors import CadError
from cad_engine.measures.classifier import Classifier, ClassifierHits
from cad_engine.measures.clip_score import Clip, ClipScore
from cad_engine.measures.named import named_measures
from cad_engine.measures.sandbox import SandboxConcept, SandboxRight, named
from cad_engine.sandbox.world import Scene, render

from .tiny import LABELS, save_classifier, save_clip


def drawn(*scenes: Scene) -> torch.Tensor:
    rng = np.random.default_rng(0)
    return torch.from_numpy(np.stack([render(scene, rng) for scene in scenes])).permute(0, 3, 1, 2).float()


@pytest.fixture(scope="module")
def classifier_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("resnet")
    save_classifier(folder)
    return folder


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clip")
    save_clip(folder)
    return folder


def test_the_sandboxs_measures() -> None:
    pictures = drawn(Scene("star", "red", "plain"), Scene("star", "blue", "dotted"), Scene("heart", "red", "plain"))
    prompts = ["a red star", "a blue five-pointed figure in striped style", "a crimson heart"]
    assert SandboxConcept("star").values(pictures, prompts).tolist() == [1, 1, 0]
    assert SandboxConcept("red").values(pictures, prompts).tolist() == [1, 0, 1]
    assert SandboxRight().values(pictures, prompts).tolist() == [1, 0, 1]
    with pytest.raises(CadError, match="reads pictures of 64 x 64 pixels, got"):
        SandboxRight().values(torch.zeros(1, 3, 32, 32), ["a red star"])
    with pytest.raises(CadError, match="does not know the concept 'dog'"):
        SandboxConcept("dog")


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ("a red star", ["star", "red"]),
        ("A picture of a STAR, in dotted style.", ["star", "dotted"]),
        ("an azure five-pointed figure", ["star", "blue"]),
        ("starry night in reddish", []),
        ("", []),
    ],
)
def test_the_words_of_a_prompt(prompt: str, words: list[str]) -> None:
    assert named(prompt) == words


def test_clip_score_is_the_cosine(clip_folder: Path) -> None:
    pictures = drawn(*(Scene("star", colour, "plain") for colour in ("red", "blue", "green") for _ in range(7)))
    prompts = [f"a red star {number}" for number in range(len(pictures))]
    model, processor = CLIPModel.from_pretrained(clip_folder), CLIPProcessor.from_pretrained(clip_folder)
    for text, measure in ((None, ClipScore(Clip(clip_folder))), ("a heart", ClipScore(Clip(clip_folder), "a heart"))):
        found = measure.values(pictures, prompts)
        assert found.shape == (21,)
        for number in (0, 5, 20):
            pixels = (pictures[number].permute(1, 2, 0) * 255).round().byte().numpy()
            given = processor(text=[text or prompts[number]], images=[pixels], return_tensors="pt")
            with torch.no_grad():
                image = model.get_image_features(pixel_values=given["pixel_values"])
                words = model.get_text_features(input_ids=given["input_ids"], attention_mask=given["attention_mask"])
            one, other = (getattr(each, "pooler_output", each)[0] for each in (image, words))
            expected = max(0.0, 100 * float(one @ other / one.norm() / other.norm()))
            assert found[number] == pytest.approx(expected, abs=1e-3)
    long = ClipScore(Clip(clip_folder)).values(pictures[:1], ["a red star " * 100])
    assert long.isfinite().all()


def test_classifier_hits_are_the_models_own(classifier_folder: Path) -> None:
    pictures = torch.rand(20, 3, 48, 48, generator=torch.Generator().manual_seed(0)) * torch.linspace(0.1, 1, 20)[:, None, None, None]
    classifier = Classifier(classifier_folder)
    top = classifier.top1(pictures)
    model = ResNetForImageClassification.from_pretrained(classifier_folder).eval()
    processor = ConvNextImageProcessorPil.from_pretrained(classifier_folder)
    for number in (0, 7, 19):
        pixels = (pictures[number].permute(1, 2, 0) * 255).round().byte().numpy()
        with torch.no_grad():
            logits = model(**processor(images=[pixels], return_tensors="pt")).logits
        assert int(logits.argmax()) == int(top[number])
    label = int(top[0])
    hits = ClassifierHits(classifier, str(label))
    assert hits.values(pictures, [""] * 20).tolist() == (top == label).float().tolist()
    assert f"“{LABELS[label]}”" in hits.name


def test_labels_are_found_by_any_of_their_names(classifier_folder: Path) -> None:
    classifier = Classifier(classifier_folder)
    names = ("Tench", "tinca tinca", "church, church building", " church building ", "3")
    assert [classifier.number(name) for name in names] == [0, 0, 1, 1, 3]
    with pytest.raises(CadError, match="2 classes"):
        classifier.number("crane")
    with pytest.raises(CadError, match="no class named 'dog'; its labels are tench, Tinca tinca; "):
        classifier.number("dog")


def test_by_the_names_that_people_give(classifier_folder: Path, clip_folder: Path) -> None:
    assert named_measures("sandbox", "a star").concept[0].name == "pictures in which the sandbox's judge sees “star”"
    clip = named_measures(f"clip:{clip_folder}", "a star")
    assert [one.name for one in (*clip.concept, *clip.kept)] == ["CLIP score with “a star”", "CLIP score with the prompt"]
    assert named_measures(f"classifier:{classifier_folder}:church", "x").concept[0].counts
    for name, message in (
        ("sandbox:x", "there is no measure 'sandbox:x'"),
        ("clip:", "there is no measure 'clip:'"),
        ("classifier:folder", "needs a folder and a label"),
        (f"clip:{classifier_folder}", "cannot be read as a CLIP model"),
        (f"classifier:{clip_folder.parent / 'nowhere'}:x", "there is no folder"),
        ("nudity:listed", "must be one of core, paper, all"),
    ):
        with pytest.raises(CadError, match=message):
            named_measures(name, "star")
