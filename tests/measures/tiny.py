"""Real classes of classifier and CLIP, of little size and random weights, as transformers saves them."""

from __future__ import annotations

from pathlib import Path

import torch
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

LABELS = {0: "tench, Tinca tinca", 1: "church, church building", 2: "crane", 3: "crane"}


def save_classifier(folder: Path) -> None:
    """A ResNet that takes pictures for this or that of LABELS."""
    torch.manual_seed(0)
    config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], num_labels=4, id2label=LABELS)
    model = ResNetForImageClassification(config)
    with torch.no_grad():
        model.classifier[1].weight.normal_(0, 5)
    model.save_pretrained(folder)
    ConvNextImageProcessorPil(size={"shortest_edge": 32}, crop_pct=1.0).save_pretrained(folder)


def save_clip(folder: Path) -> None:
    """A CLIP with the sandbox's tokenizer."""
    tokenizer = load_model("sandbox").pipeline.tokenizer
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    small = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {**small, "vocab_size": len(tokenizer), "max_position_embeddings": 24, "eos_token_id": tokenizer.eos_token_id}
    config = CLIPConfig(text_config=text, vision_config={**small, "image_size": 32, "patch_size": 8}, projection_dim=12)
    CLIPModel(config).save_pretrained(folder)
    processor = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    CLIPProcessor(processor, tokenizer).save_pretrained(folder)
