"""Measures of pictures against the same computed apart, with real models of little size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import (
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    CLIPProcessor,
    CLIPTokenizer,
    ConvNextImageProcessorPil,
    ResNetConfig,
    ResNetForImageClassification,
)

from cad_engine.errors import CadError
from cad_engine.measures.classifier import Classifier, ClassifierHits
from cad_engine.measures.clip_score import ClipScore
from cad_engine.measures.named import named_measures
from cad_engine.measures.nudity import NudityCount
from cad_engine.measures.sandbox import SandboxConcept, SandboxRight, named
from cad_engine.sandbox.world import Scene, render

LABELS = {0: "tench, Tinca tinca", 1: "church, church building", 2: "crane", 3: "crane"}


def drawn(*scenes: Scene) -> torch.Tensor:
    rng = np.random.default_rng(0)
    return torch.from_numpy(np.stack([render(scene, rng) for scene in scenes])).permute(0, 3, 1, 2).float()


@pytest.fixture(scope="module")
def classifier_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("resnet")
    torch.manual_seed(0)
    config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], num_labels=4, id2label=LABELS)
    model = ResNetForImageClassification(config)
    with torch.no_grad():
        model.classifier[1].weight.normal_(0, 5)
    model.save_pretrained(folder)
    ConvNextImageProcessorPil(size={"shortest_edge": 32}, crop_pct=1.0).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clip")
    from cad_engine.checkpoints.load import load_model

    tokenizer = load_model("sandbox").pipeline.tokenizer
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    small = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {**small, "vocab_size": len(tokenizer), "max_position_embeddings": 24, "eos_token_id": tokenizer.eos_token_id}
    config = CLIPConfig(text_config=text, vision_config={**small, "image_size": 32, "patch_size": 8}, projection_dim=12)
    CLIPModel(config).save_pretrained(folder)
    CLIPProcessor(CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}), tokenizer).save_pretrained(folder)
    return folder
