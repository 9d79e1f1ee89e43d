"""OpenAI CLIP's tokenizer, made from the merges that are shipped."""

from __future__ import annotations

from pathlib import Path

import pytest

from cad_engine.checkpoints.clip_tokenizer import CLIP_LENGTH, build_vocab, clip_merges, clip_tokenizer
from cad_engine.sandbox import tokenizer as sandbox_tokenizer

START, END = 49406, 49407


def test_vocabulary_is_clips() -> None:
    vocab = build_vocab(clip_merges())
    assert len(clip_merges()) == 48894
    assert len(vocab) == 49408
    assert [vocab[token] for token in ("!", "!</w>", "the</w>", "<|startoftext|>", "<|endoftext|>")] == [0, 256, 518, START, END]


@pytest.mark.parametrize(
    ("prompt", "ids"),
    [
        ("a photo of a cat", [320, 1125, 539, 320, 2368]),
        ("A  Photo of a CAT", [320, 1125, 539, 320, 2368]),
        ("hello!", [3306, 256]),
        ("van gogh", [2451, 19697]),
        ("", []),
    ],
)
def test_known_ids(prompt: str, ids: list[int]) -> None:
    assert clip_tokenizer()(prompt).input_ids == [START, *ids, END]


def test_padding_is_the_end_token_or_id_0_and_leaves_exclamation_marks_alone() -> None:
    padded = clip_tokenizer()("hello!", padding="max_length").input_ids
    zero_padded = clip_tokenizer(zero_pad=True)("hello!", padding="max_length").input_ids
    assert padded == [START, 3306, 256, END] + [END] * (CLIP_LENGTH - 4)
    assert zero_padded == [START, 3306, 256, END] + [0] * (CLIP_LENGTH - 4)


def test_sandbox_writes_the_same_form(tmp_path: Path) -> None:
    vocab, merges = sandbox_tokenizer.vocabulary()
    assert vocab == build_vocab(merges)
    sandbox_tokenizer.write(tmp_path, vocab, merges)
    ids = sandbox_tokenizer.load(tmp_path)("a red star").input_ids
    assert ids == [vocab[token] for token in ("<|startoftext|>", "a</w>", "red</w>", "star</w>", "<|endoftext|>")]
