"""The sandbox's world, its words and its judge."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cad_engine.sandbox.captions import KINDS, PARAPHRASES, concept_prompts, kind_of, prompt, random_caption
from cad_engine.sandbox.checkpoint import SANDBOX_FILE, read_config
from cad_engine.sandbox.judge import JUDGE_FILE, Judge
from cad_engine.sandbox.tokenizer import MAX_LENGTH, load, vocabulary, write
from cad_engine.sandbox.world import COLOURS, SHAPES, STYLES, Scene, render


def random_scenes(count: int, seed: int) -> list[Scene]:
    rng = np.random.default_rng(seed)
    return [Scene(str(rng.choice(SHAPES)), str(rng.choice(COLOURS)), str(rng.choice(STYLES))) for _ in range(count)]


def test_the_judge_reads_drawn_pictures() -> None:
    scenes, rng = random_scenes(300, 7), np.random.default_rng(8)
    pictures = torch.from_numpy(np.stack([render(scene, rng) for scene in scenes])).permute(0, 3, 1, 2)
    assert 0 <= float(pictures.min()) <= float(pictures.max()) <= 1
    verdicts = Judge.load().look(pictures)
    assert sum(verdict.scene == scene for verdict, scene in zip(verdicts, scenes, strict=True)) >= 295


def test_pictures_depend_on_the_generator_alone() -> None:
    scene = Scene("heart", "red", "striped")
    one, two, other = (render(scene, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert np.array_equal(one, two)
    assert not np.array_equal(one, other)


@pytest.mark.parametrize("bad", [Scene("cube", "red", "plain"), Scene("star", "pink", "plain"), Scene("star", "red", "cubist")])
def test_unknown_labels_are_named(bad: Scene) -> None:
    with pytest.raises(ValueError, match="the sandbox knows no"):
        render(bad, np.random.default_rng(0))


def test_every_caption_fits_and_every_known_word_is_one_token(tmp_path) -> None:
    vocab, merges = vocabulary()
    write(tmp_path, vocab, merges)
    tokenizer = load(tmp_path)
    for word in {*PARAPHRASES, *(part for text in PARAPHRASES.values() for part in text.replace("-", " ").split())}:
        assert len(tokenizer(word).input_ids) == 3, word  # start, the word, end
    rng = np.random.default_rng(0)
    assert max(len(tokenizer(random_caption(scene, rng)).input_ids) for scene in random_scenes(2000, 1)) <= MAX_LENGTH
    assert tokenizer.decode(tokenizer("van gogh ☆").input_ids, skip_special_tokens=True).replace(" ", "") == "vangogh☆"


@pytest.mark.parametrize(
    ("concept", "base"), [("star", "a shape"), ("arrow", "a shape"), ("red", "a colored shape"), ("dotted", "a shape")]
)
def test_matched_base_prompts(concept: str, base: str) -> None:
    prompts = concept_prompts(concept)
    assert concept in prompts.sample
    assert prompts.base == base


def test_prompts_and_kinds() -> None:
    assert prompt("star", "red", "dotted") == "a red star in dotted style"
    assert prompt("arrow") == "an arrow"
    assert prompt("star", "red", "plain") == "a red star"
    assert {kind_of(word) for words in KINDS.values() for word in words} == set(KINDS)
    with pytest.raises(ValueError, match="does not know the concept 'van gogh'"):
        kind_of("van gogh")


def test_the_shipped_files_are_small_and_whole() -> None:
    assert SANDBOX_FILE.stat().st_size <= 16 * 10**6
    assert JUDGE_FILE.stat().st_size <= 2 * 10**6
    config = read_config(SANDBOX_FILE)
    assert config.text["vocab_size"] == len(config.vocab)
    assert (config.vocab, config.merges) == vocabulary()
