"""What the pack finds of words in ComfyUI's text encoders is what the engine finds in the same ones."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from torch import Tensor

from cad_engine.checkpoints.clip_tokenizer import clip_tokenizer
from cad_engine.checkpoints.load import load_model
from cad_engine.vocabulary import Vocabulary
from tests.comfyui import comfyui

pytestmark = pytest.mark.comfyui

ASKED = ["dog", "castle", "gogh", "red"]
FAMILIES = ("sd1", "sd1 fp16", "sd1 fp8", "sd2", "sdxl", "sdxl refiner")


@pytest.fixture(scope="module")
def sandbox() -> Vocabulary:
    pipeline = load_model("sandbox").pipeline
    return Vocabulary.of(pipeline.tokenizer, pipeline.text_encoder)


@pytest.fixture(scope="module")
def found(sandbox: Vocabulary, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What comfyui_side/vocabulary.py writes."""
    root, python = comfyui()
    folder, script = tmp_path_factory.mktemp("vocabulary"), Path(__file__).parent / "comfyui_side/vocabulary.py"
    (folder / "asked.json").write_text(json.dumps({"sandbox": sandbox.words, "others": ASKED}), encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(root), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([python, script, folder], env=environment, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads((folder / "answer.json").read_text(encoding="utf-8")), load_file(folder / "embeddings.safetensors")


def same(found: dict[str, Any], expected: Vocabulary, words: list[str]) -> None:
    assert found["words"] == expected.words
    for word in words:
        mine, theirs = found["near"][word], expected.near(word)
        assert [other for other, _ in mine[:20]] == [other for other, _ in theirs[:20]], word
        assert [closeness for _, closeness in mine] == pytest.approx([closeness for _, closeness in theirs], abs=1e-5), word


def test_of_the_sandbox(found: tuple[dict[str, Any], dict[str, Tensor]], sandbox: Vocabulary) -> None:
    assert {"star", "red", "dotted"} <= set(sandbox.words)
    same(found[0]["sandbox"], sandbox, sandbox.words)


@pytest.mark.parametrize("family", FAMILIES)
def test_of_every_family_in_any_storage(found: tuple[dict[str, Any], dict[str, Tensor]], family: str) -> None:
    answer, embeddings = found
    expected = Vocabulary(clip_tokenizer().get_vocab().items(), embeddings[family])
    assert len(expected.words) > 20_000
    same(answer[family], expected, ASKED)


@pytest.mark.parametrize("case", ["another build", "too few embeddings"])
def test_none_of_another_build(found: tuple[dict[str, Any], dict[str, Tensor]], case: str) -> None:
    assert found[0][case] is None
